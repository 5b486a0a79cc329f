/** A node that does not answer. */
import { ActivityFailure, ApplicationFailure, TimeoutFailure } from '@temporalio/workflow';
import type { FailureType } from '../activities/types.js';

/** Whether a step on a node has run out of time. */
export function isTimeout(error: unknown): boolean {
  return error instanceof ActivityFailure && error.cause instanceof TimeoutFailure;
}

/** Whether a node does not answer, or its pool cannot be used now. */
export function isSilence(error: unknown): boolean {
  const cause = error instanceof ActivityFailure ? error.cause : undefined;
  return isTimeout(error) || (cause instanceof ApplicationFailure && !cause.nonRetryable);
}

/**
 * The failure to throw where a step on a node failed: for one that ran out of time `NodeUnavailable`, with what the last attempt said,
 * else the error itself. `then` says what is to be done.
 */
export function nodeFailure(error: unknown, { node, then }: { node: string; then: string }): unknown {
  const timeout = error instanceof ActivityFailure ? error.cause : undefined;
  if (!(timeout instanceof TimeoutFailure)) return error;
  const last = timeout.cause instanceof ApplicationFailure ? timeout.cause : undefined;
  const why = last
    ? `node ${node} did not come to an end: ${last.message}`
    : `no node worker answers on node ${node}`;
  const type = last?.type ?? ('NodeUnavailable' satisfies FailureType);
  return ApplicationFailure.create({ type, message: `${why}; ${then}`, nonRetryable: true, cause: timeout });
}
