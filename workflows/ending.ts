/** How a run that does not succeed ends: everything is undone, and the DataVolume says why. */
import {
  ActivityFailure,
  ApplicationFailure,
  isCancellation,
  log,
  patched,
  sleep,
  upsertSearchAttributes,
} from '@temporalio/workflow';
import type { PermanentFailureType } from '../activities/types/failures.js';
import type { Condition, DataVolumeRef } from '../activities/types.js';
import { control } from './activity-options.js';
import { statusFor } from './conditions.js';
import { wordsFor } from './lifecycle-words.js';
import type { Lifecycle } from './volume-lifecycle.js';
import { SEARCH_ATTRIBUTES } from './messages.js';
import { leavePhase, recordMetric } from './metrics.js';
import { PLANNING, type Run } from './run-state.js';

/** Mark of the histories in which everything is undone although nobody could be told what was not. */
const UNDOES_THE_REST = 'undoes the rest';

/** Undoes and says why, if the DataVolume exists: whether it does. The status does not wait longer than 5 s for a node that is away. */
export async function fail(ref: DataVolumeRef, run: Run, error: unknown): Promise<boolean> {
  const told = {
    claim: ref.name,
    namespace: ref.namespace,
    source: run.status.source,
    from: run.status.displayUrl,
  };
  const failure = failureOf(error, wordsFor(told).noun);
  const claimNotValid = isClaimNotValid(run, failure.type);
  run.status = { ...run.status, step: 'cleaning up', failure };
  leavePhase(run);
  const undone = undoAll(run, {
    async event(event) {
      await control.recordStatus({ dataVolume: ref, event });
    },
  });
  await Promise.race([undone, sleep('5s')]);
  const update = { ...statusFor('Failed', { ...told, failure }), ...(claimNotValid && { claimNotValid }) };
  run.status = { ...run.status, phase: 'Failed', conditions: update.conditions as readonly Condition[] };
  upsertSearchAttributes([{ key: SEARCH_ATTRIBUTES.phase, value: 'Failed' }]);
  let exists: boolean;
  try {
    ({ exists } = await control.recordStatus({ dataVolume: ref, ...update }));
  } finally {
    await undone;
  }
  run.status = { ...run.status, step: failure.type === 'Cancelled' ? 'cancelled' : 'failed' };
  return exists;
}

/** Failures of a claim that cannot be made; and those which are one only where the claim is planned, not where the source is looked at. */
const CLAIM_FAILURES: readonly string[] = [
  'IncompatiblePVC',
  'StorageClassNotFound',
] satisfies PermanentFailureType[];
const PLANNING_FAILURES: readonly string[] = [
  'InvalidDataVolume',
  'ContentTypeNotSupported',
] satisfies PermanentFailureType[];

/** Whether a run fails because the claim that its DataVolume asks for cannot be made: none is there yet. */
function isClaimNotValid({ status, handedOn }: Run, type: string): boolean {
  if (status.claim || handedOn.target) return false;
  return CLAIM_FAILURES.includes(type) || (status.step === PLANNING && PLANNING_FAILURES.includes(type));
}

/** Leaves a step of clean-up to the sweeper, and says so. */
export async function deferCleanup(volume: Pick<Lifecycle, 'event'>, message: string): Promise<void> {
  recordMetric('dvflow_cleanup_deferred_total', 1);
  await volume.event({ type: 'Warning', reason: 'CleanupDeferred', message });
}

/**
 * Undoes what the run did, last in first out; what cannot be undone is said and left to the sweeper, if that finds it. A step that
 * finds the volume to be a user's commits the run, and is the last one.
 */
export async function undoAll(run: Run, volume: Pick<Lifecycle, 'event'>): Promise<void> {
  for (let step = run.undo.pop(); step; step = run.undo.pop()) {
    const { what, run: undo, isSwept = true } = step;
    try {
      await undo();
    } catch (error) {
      log.error('clean-up failed', { what, error, isSwept });
      const left = isSwept
        ? 'the sweeper will'
        : 'nobody else does: send the whole file again, or delete the claim';
      await deferOrGoOn(volume, `could not ${what}: ${messageOf(error)}; ${left}`);
    }
  }
}

/** What nobody can be told of is no reason to leave the rest. */
async function deferOrGoOn(volume: Pick<Lifecycle, 'event'>, message: string): Promise<void> {
  try {
    await deferCleanup(volume, message);
  } catch (error) {
    if (!patched(UNDOES_THE_REST)) throw error;
    log.error('nobody could be told of a clean-up that failed', { message, error });
  }
}

/** What a run failed of: type and message of the failure behind its activity's, where there is one. */
export function failureOf(error: unknown, what = 'import'): { type: string; message: string } {
  if (isCancellation(error)) return { type: 'Cancelled', message: `the ${what} was cancelled` };
  const cause = error instanceof ActivityFailure ? error.cause : error;
  const type = cause instanceof ApplicationFailure ? cause.type : undefined;
  return { type: type ?? 'Error', message: messageOf(cause) };
}

function messageOf(error: unknown): string {
  if (error instanceof ActivityFailure && error.cause) return messageOf(error.cause);
  return error instanceof Error ? error.message : String(error);
}
