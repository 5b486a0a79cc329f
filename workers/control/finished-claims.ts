/**
 * What becomes of the claim of a disk that is complete: bound later, lost, deleted, restored in its place (`clients.md` §3.5). All of
 * it is read off DataVolume and claim as they are, so that it may be said any number of times, by any replica.
 */
import type { V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { controllerOf } from '../../activities/kubernetes/claim-object.js';
import { isAwaitingRestore } from '../../activities/kubernetes/data-volume-facts.js';
import { CDI_ANNOTATIONS, MARKS } from '../../activities/kubernetes/names.js';
import type { DataVolume } from '../../activities/kubernetes/objects.js';
import { isLeftByCdi } from '../../activities/kubernetes/plain-claims.js';
import type { Condition, Phase } from '../../activities/types.js';

/** What of a DataVolume decides. */
type Finished = Pick<DataVolume, 'metadata' | 'status'>;

/** What of its claim decides. */
type FinishedClaim = Pick<V1PersistentVolumeClaim, 'metadata' | 'status'>;

/** What a status does not say yet. */
interface News {
  readonly phase: Phase;
  readonly conditions: readonly Condition[];
}

const NO_CLAIM: Condition = { type: 'Bound', status: 'False', reason: 'NotFound', message: 'No PVC found' };

const LOST_CLAIM: Condition = { type: 'Bound', status: 'False', reason: 'ClaimLost', message: 'Claim Lost' };

/** Reason and message of `Bound` while an adopted claim has no volume yet; see `statusFor` of the workflows. */
const NO_VOLUME_YET = 'Pending';

/**
 * What the claim of a finished DataVolume tells that its status does not, or `undefined`. Whoever waits for `Ready` waits for a disk.
 * While somebody restores the claim, and says so (`storage.prePopulated`), the phase is `Pending` until there is one again.
 */
export function newsOfClaim(dataVolume: Finished, claim: FinishedClaim | undefined): News | undefined {
  const { metadata, status } = dataVolume;
  const told = status?.conditions?.find(({ type }) => type === 'Bound');
  const failed = isRestoredAfterFailure(dataVolume, claim);
  if (!told || !(failed || isComplete(status))) return undefined;
  if (!claim) {
    const phase =
      metadata.annotations?.[CDI_ANNOTATIONS.prePopulated] === undefined ? 'Succeeded' : 'Pending';
    return told.reason === NO_CLAIM.reason && status?.phase === phase ? undefined : away(phase, NO_CLAIM);
  }
  const isTold = told.status === 'True';
  const waits = !isTold && told.reason === NO_VOLUME_YET;
  const restored = isRestored(claim, metadata);
  // a claim that is somebody else's, or an earlier end, says nothing of a disk
  if (!isTold && !waits && !restored) return undefined;
  switch (claim.status?.phase) {
    case 'Lost':
      return told.reason === LOST_CLAIM.reason ? undefined : away('Succeeded', LOST_CLAIM);
    case 'Bound':
      return isTold ? undefined : over(failed, { phase: 'Succeeded', conditions: bound(metadata.name) });
    default:
      return restored && !waits ? over(failed, away('Succeeded', notYet(metadata.name))) : undefined;
  }
}

/** Somebody has restored the claim for this DataVolume, which is to own it: it goes with the DataVolume, as the one before. */
export function isToAdopt(dataVolume: Finished, claim: FinishedClaim | undefined): claim is FinishedClaim {
  if (claim === undefined || controllerOf(claim) || !isRestored(claim, dataVolume.metadata)) return false;
  return isComplete(dataVolume.status) || isRestoredAfterFailure(dataVolume, claim);
}

/** The disk was complete once, and is never filled again. */
function isComplete(status: DataVolume['status']): boolean {
  return status?.phase === 'Succeeded' || isAwaitingRestore(status);
}

/**
 * Failed while somebody restored the claim, which says by now that it holds the disk: a control worker of an earlier release takes a
 * DataVolume without a run that awaits its claim for one that has lost its run. A retry would take that claim too.
 */
function isRestoredAfterFailure({ metadata, status }: Finished, claim: FinishedClaim | undefined): boolean {
  return (
    status?.phase === 'Failed' &&
    metadata.annotations?.[CDI_ANNOTATIONS.prePopulated] !== undefined &&
    claim?.metadata?.annotations?.[CDI_ANNOTATIONS.populatedFor] === metadata.name &&
    claim.status?.phase !== 'Lost' &&
    isRestored(claim, metadata)
  );
}

/** A claim with the disk of this DataVolume: by its word, or since it is this DataVolume's already. */
function isRestored(claim: FinishedClaim, { name, uid }: DataVolume['metadata']): boolean {
  const { annotations = {}, labels = {}, deletionTimestamp } = claim.metadata ?? {};
  if (deletionTimestamp || labels[MARKS.unpublished] !== undefined) return false;
  const owner = controllerOf(claim);
  if (owner) return owner.uid === uid && !isLeftByCdi(claim);
  return annotations[CDI_ANNOTATIONS.populatedFor] === name;
}

/** Of what failed `Running` says so; nothing runs, and nothing is amiss any more. */
function over(failed: boolean, { phase, conditions }: News): News {
  const running: Condition = {
    type: 'Running',
    status: 'False',
    reason: 'Completed',
    message: 'The claim was restored',
  };
  return { phase, conditions: failed ? [...conditions, running] : conditions };
}

function away(phase: Phase, why: Condition): News {
  return { phase, conditions: [why, { ...why, type: 'Ready' }] };
}

function notYet(name: string): Condition {
  return { type: 'Bound', status: 'False', reason: NO_VOLUME_YET, message: `PVC ${name} Pending` };
}

function bound(name: string): readonly Condition[] {
  return [
    { type: 'Bound', status: 'True', reason: 'Bound', message: `PVC ${name} Bound` },
    { type: 'Ready', status: 'True', reason: '', message: '' },
  ];
}
