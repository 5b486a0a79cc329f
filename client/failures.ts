import {
  ActivityFailure,
  ApplicationFailure,
  CancelledFailure,
  TerminatedFailure,
  TimeoutFailure,
} from '@temporalio/common/lib/failure.js';
import type { FailureType } from '../activities/types.js';

/** Why an import ended without a disk. */
export interface ImportFailure {
  /**
   * A type of `docs/failures.md`; `Cancelled` and `Terminated` when a person ended the run; `Unknown` for what dvflow did not
   * throw.
   */
  readonly type: FailureType | 'Cancelled' | 'Terminated' | 'Unknown';
  /** For people: what, which one, and the figures compared. */
  readonly message: string;
}

/**
 * What the error thrown by `result()` of an import says: the failure at the bottom of Temporal's chain of causes, so that nobody
 * has to walk it.
 */
export function failureOf(error: unknown): ImportFailure {
  const cause = error instanceof ActivityFailure || isWorkflowFailed(error) ? error.cause : undefined;
  // An activity that ran out of its own time carries the failure that it was last retried for.
  if (cause) return failureOf(cause);
  if (error instanceof CancelledFailure) return { type: 'Cancelled', message: 'the import was cancelled' };
  if (error instanceof TerminatedFailure) {
    return { type: 'Terminated', message: 'the workflow was terminated; the sweeper removes what it left' };
  }
  if (error instanceof TimeoutFailure && error.cause) return failureOf(error.cause);
  if (error instanceof ApplicationFailure && error.type && error.type !== 'Error') {
    return { type: error.type as FailureType, message: error.message };
  }
  return { type: 'Unknown', message: error instanceof Error ? error.message : String(error) };
}

/** By name: the class is in the whole of Temporal's client, which a command that failed without it would load for this. */
function isWorkflowFailed(error: unknown): error is Error {
  return error instanceof Error && error.name === 'WorkflowFailedError';
}
