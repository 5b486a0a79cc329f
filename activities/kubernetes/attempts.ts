/**
 * What users hear of attempts that fail: Temporal tries an activity again by itself, and neither the lifecycle nor `kubectl`
 * would know of it for minutes.
 */
import { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { failureTypeOf } from '../failures.js';
import type { ControlActivities } from '../interfaces.js';
import type { DataVolumeRef, FailureType } from '../types.js';

/** Inspections in a row after which a source that does not answer is believed to be away. */
export const SOURCE_ATTEMPTS = 10;

/** An attempt that failed and is followed by another one. */
export interface FailedAttempt {
  /** Name of the activity: `inspectSource`. */
  readonly activity: string;
  readonly attempt: number;
  readonly type: FailureType;
  readonly message: string;
}

/** How {@link wordsOf} ends. */
const TOLD = / \(attempt \d+(?: of \d+)? failed, trying again\)$/;

/** The failure in words, with the attempt: `connection refused (attempt 3 of 10 failed, trying again)`. */
export function wordsOf({ activity, attempt, type, message }: FailedAttempt): string {
  // there are more of them where Kubernetes was away for some
  const bounded = activity === 'inspectSource' && type === 'SourceUnavailable' && attempt < SOURCE_ATTEMPTS;
  const last = bounded ? ` of ${SOURCE_ATTEMPTS}` : '';
  return `${message} (attempt ${attempt}${last} failed, trying again)`;
}

/** Whether a text is one of {@link wordsOf}. */
export function tellsOfAttempt(text: string): boolean {
  return TOLD.test(text);
}

type Activity<I, O> = (input: I) => Promise<O>;

/**
 * Has an activity say by an event on its DataVolume that an attempt failed and another one follows: a warning of the failure's
 * type, which counts up. The attempt's failure passes through, told or not; the last one is told by the workflow.
 */
export function createAttemptTeller({
  recordStatus,
}: Pick<ControlActivities, 'recordStatus'>): <I extends { readonly dataVolume: DataVolumeRef }, O>(
  activity: string,
  run: Activity<I, O>,
) => Activity<I, O> {
  async function tell(dataVolume: DataVolumeRef, failed: FailedAttempt): Promise<void> {
    try {
      const event = { type: 'Warning', reason: failed.type, message: wordsOf(failed) } as const;
      await recordStatus({ dataVolume, event });
    } catch (error) {
      // Kubernetes itself may be what is away.
      Context.current().log.debug('a failed attempt was not told', { ...dataVolume, error });
    }
  }

  return (activity, run) => async (input) => {
    try {
      return await run(input);
    } catch (error) {
      const type = failureTypeOf(error);
      // Only dvflow's own failures are known to hold nothing secret.
      if (error instanceof ApplicationFailure && type && !error.nonRetryable) {
        const { attempt } = Context.current().info;
        await tell(input.dataVolume, { activity, attempt, type, message: error.message });
      }
      throw error;
    }
  };
}
