/** A reserved volume that is complete goes to the user's claim. */
import { Context } from '@temporalio/activity';
import type { V1PersistentVolume, V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { permanentFailure } from '../failures.js';
import type { ReservedVolume } from '../types/local-volumes.js';
import type { ClaimRef, DataVolumeRef, PublishedVolume } from '../types.js';
import type { VolumePlan } from '../types/provision.js';
import { callIfFound } from './client.js';
import type { Kubernetes } from './client.js';
import { changeClaim, patchClaim, readClaim } from './claim-object.js';
import { CDI_ANNOTATIONS, MARKS, reservationName } from './names.js';
import { beforeOf, changedMeanwhile, isReservedFor, patchVolume, withoutMarks } from './reservation-marks.js';

/** Kubernetes needs this long to bind a claim that it looks at. In ms. */
const BOUND_POLL_MS = 250;
/**
 * A claim that names its volume is looked at every 15 s, and when it changes; a change that comes before Kubernetes has seen that the
 * volume is offered is of no use, so that there is another one. In ms.
 */
const TOUCH_MS = 1000;

/** A volume to hand over. */
export interface HandOver {
  readonly dataVolume: DataVolumeRef;
  readonly claim: ClaimRef;
  readonly target: VolumePlan;
  readonly volume: ReservedVolume;
  /** See `Publication`. */
  readonly preallocated?: boolean | undefined;
}

/**
 * Moves the `claimRef` from the reservation to the claim, with a test of what it was, waits until the claim is Bound, and makes the
 * volume's policy again what it was.
 * @throws {@link FailureType} `ClaimLost` when claim or volume are not ours any more
 */
export async function handOver(kubernetes: Kubernetes, input: HandOver): Promise<PublishedVolume> {
  const { claim, volume, preallocated = false } = input;
  await readClaim(kubernetes, claim);
  await moveClaimRef(kubernetes, input);
  await awaitBound(kubernetes, claim, volume.volume);
  // the volume first: a claim without the mark is never swept, whatever happens in between
  await unmarkVolume(kubernetes, input);
  await changeClaim(kubernetes, claim, {
    metadata: {
      uid: claim.uid,
      labels: { [MARKS.unpublished]: null },
      annotations: {
        [MARKS.workflowId]: null,
        [MARKS.dataVolume]: null,
        [MARKS.renewedBy]: null,
        [MARKS.reservedVolume]: null,
        [MARKS.handedOver]: null,
        ...(preallocated ? { [CDI_ANNOTATIONS.preallocated]: 'true' } : {}),
      },
    },
  });
  return { volume: volume.volume };
}

/**
 * Looks whether a reserved volume is still the one that is filled for the claim, while it is filled.
 * @throws {@link FailureType} `ClaimLost` where it was deleted, made anew under its name, or given to somebody else
 */
export async function confirmReserved(
  kubernetes: Kubernetes,
  claim: ClaimRef,
  volume: ReservedVolume,
): Promise<void> {
  const { claimRef } = (await readVolume(kubernetes, volume)).spec ?? {};
  const held = claimRef?.name === reservationName(volume.dataVolume.uid);
  if (!held && claimRef?.uid !== claim.uid) throw takenAway(volume);
}

/** Whether the volume of that name is another one by now, whatever it holds. */
export async function isMadeAnew(
  { core }: Kubernetes,
  { volume: name, volumeUid }: ReservedVolume,
): Promise<boolean> {
  const found = await callIfFound(`reading volume ${name}`, core.readPersistentVolume({ name }));
  return found !== undefined && found.metadata?.uid !== volumeUid;
}

async function moveClaimRef(kubernetes: Kubernetes, { dataVolume, claim, volume }: HandOver): Promise<void> {
  const { claimRef } = (await readVolume(kubernetes, volume)).spec ?? {};
  if (claimRef?.uid === claim.uid) return;
  if (claimRef?.name !== reservationName(dataVolume.uid)) throw takenAway(volume);
  const outcome = await patchVolume(kubernetes, volume.volume, `handing volume ${volume.volume} over`, [
    { op: 'test', path: '/metadata/uid', value: volume.volumeUid },
    { op: 'test', path: '/spec/claimRef/namespace', value: claimRef.namespace },
    { op: 'test', path: '/spec/claimRef/name', value: claimRef.name },
    {
      op: 'replace',
      path: '/spec/claimRef',
      value: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', ...claim },
    },
  ]);
  if (outcome === 'gone') throw takenAway(volume);
  if (outcome === 'changed') throw changedMeanwhile(volume.volume);
}

async function awaitBound(kubernetes: Kubernetes, claim: ClaimRef, volume: string): Promise<void> {
  const context = Context.current();
  for (let touched = 0; ;) {
    const { spec, status } = await readClaim(kubernetes, claim);
    if (status?.phase === 'Bound' && spec?.volumeName === volume) return;
    if (Date.now() - touched >= TOUCH_MS) {
      touched = Date.now();
      const annotations = { [MARKS.handedOver]: new Date(touched).toISOString() };
      await patchClaim(kubernetes, claim, { metadata: { uid: claim.uid, annotations } });
    }
    await context.sleep(BOUND_POLL_MS);
  }
}

async function unmarkVolume(kubernetes: Kubernetes, { dataVolume, volume }: HandOver): Promise<void> {
  const found = await readVolume(kubernetes, volume);
  if (!isReservedFor(found, dataVolume)) return;
  const { resourceVersion, labels = {}, annotations = {} } = found.metadata ?? {};
  const outcome = await patchVolume(kubernetes, volume.volume, `publishing volume ${volume.volume}`, [
    { op: 'test', path: '/metadata/resourceVersion', value: resourceVersion },
    { op: 'add', path: '/spec/persistentVolumeReclaimPolicy', value: beforeOf(found).reclaimPolicy },
    { op: 'add', path: '/metadata/labels', value: withoutMarks(labels) },
    { op: 'add', path: '/metadata/annotations', value: withoutMarks(annotations) },
  ]);
  if (outcome !== 'patched') throw changedMeanwhile(volume.volume);
}

/**
 * Whether a claim that waits for a reserved volume is Bound, which only the hand-over does rightly: a volume that was made anew under
 * the name is free, and Kubernetes gives it to the claim that names it, whatever it holds.
 */
export function isBoundUnpublished({ metadata, status }: V1PersistentVolumeClaim): boolean {
  const { labels, annotations } = metadata ?? {};
  const waits =
    labels?.[MARKS.unpublished] !== undefined && annotations?.[MARKS.reservedVolume] !== undefined;
  return waits && status?.phase === 'Bound';
}

/** A claim that is being filled is Bound by nobody: see {@link isBoundUnpublished}. @throws {@link FailureType} `ClaimLost` */
export function refuseBoundEarly(claim: V1PersistentVolumeClaim): void {
  if (!isBoundUnpublished(claim)) return;
  const { metadata: { namespace, name } = {}, spec } = claim;
  throw permanentFailure(
    'ClaimLost',
    `claim ${namespace}/${name} was bound to PersistentVolume ${spec?.volumeName} before its disk was complete: somebody has made that ` +
      'PersistentVolume anew or released it, and nothing more is written to it',
  );
}

/** The volume, if it is still that one. @throws {@link FailureType} `ClaimLost` */
async function readVolume({ core }: Kubernetes, volume: ReservedVolume): Promise<V1PersistentVolume> {
  const name = volume.volume;
  const found = await callIfFound(`reading volume ${name}`, core.readPersistentVolume({ name }));
  if (found?.metadata?.uid !== volume.volumeUid) throw takenAway(volume);
  return found;
}

function takenAway({ volume, dataVolume: { namespace, name } }: ReservedVolume): Error {
  return permanentFailure(
    'ClaimLost',
    `PersistentVolume ${volume} was taken away or deleted while it was filled for claim ${namespace}/${name}`,
  );
}
