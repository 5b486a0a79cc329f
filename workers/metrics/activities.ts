import type { Context } from '@temporalio/activity';
import { ApplicationFailure, ApplicationFailureCategory, CancelledFailure } from '@temporalio/common';
import type { ActivityInterceptorsFactory } from '@temporalio/worker';
import { failureTypeOf } from '../../activities/failures.js';
import type { Metrics } from './index.js';

/** Kind of a task queue: its name holds the node's. */
export type QueueKind = 'control' | 'node' | 'serve' | 'transfer';

/** What is told of every activity besides. */
export interface ActivityObserver {
  /** An activity of this type begins; the returned function is called at its end. */
  begin(type: string, args: readonly unknown[]): ((outcome: Outcome) => void) | undefined;
}

/** How an attempt ended. */
export interface Outcome {
  readonly seconds: number;
  readonly outcome: 'completed' | 'failed' | 'cancelled';
}

/** Counts waits and failures of the activities of one queue. */
export function activityMetrics(
  metrics: Metrics,
  queue: QueueKind,
  observer?: ActivityObserver,
): ActivityInterceptorsFactory {
  return (context) => ({
    inbound: {
      async execute(input, next) {
        metrics.record('dvflow_queue_wait_seconds', waitOf(context), { queue });
        const startedAt = performance.now();
        const end = observer?.begin(context.info.activityType, input.args);
        let outcome: Outcome['outcome'] = 'completed';
        try {
          return await next(input);
        } catch (error) {
          outcome = outcomeOf(error);
          const type = failureTypeOf(error) ?? 'Error';
          if (outcome === 'failed' && !isBenign(error))
            metrics.record('dvflow_activity_failures_total', 1, { queue, type });
          throw error;
        } finally {
          end?.({ seconds: (performance.now() - startedAt) / 1000, outcome });
        }
      },
    },
  });
}

function waitOf({ info }: Context): number {
  // Two clocks: the server's, and this machine's.
  return Math.max(0, Date.now() - info.currentAttemptScheduledTimestampMs) / 1000;
}

function outcomeOf(error: unknown): 'failed' | 'cancelled' {
  const aborted = error instanceof Error && error.name === 'AbortError';
  return aborted || error instanceof CancelledFailure ? 'cancelled' : 'failed';
}

function isBenign(error: unknown): boolean {
  return error instanceof ApplicationFailure && error.category === ApplicationFailureCategory.BENIGN;
}
