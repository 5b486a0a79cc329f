import { ActivityFailure, ApplicationFailure } from '@temporalio/workflow';
import type { FailureType } from '../activities/types.js';

/** A claim was refused by a ResourceQuota: room may be freed, or the quota raised. */
export function isExceededQuota(error: unknown): error is ActivityFailure {
  const cause = error instanceof ActivityFailure ? error.cause : undefined;
  return cause instanceof ApplicationFailure && cause.type === ('ExceededQuota' satisfies FailureType);
}
