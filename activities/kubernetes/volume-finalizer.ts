/**
 * The finalizer of the PersistentVolumes that dvflow makes and empties. Kubernetes' own protection ends with the claim: without this
 * one, a volume that somebody deletes while it is Bound would be gone before anybody has removed the data behind it.
 */
import { PatchStrategy, setHeaderOptions } from '@kubernetes/client-node';
import type { V1PersistentVolume } from '@kubernetes/client-node';
import { callForOutcome } from './client.js';
import type { Kubernetes } from './client.js';
import {
  HOSTPATH_PROVISIONERS,
  IDENTITY,
  MARKS,
  OWN_NAMESPACE,
  PROVISIONED_BY,
  RECLAIM_FINALIZER,
} from './names.js';
import { CHANGED, changedMeanwhile } from './reservation-marks.js';

/** One key of a strategic merge patch: takes the finalizer off, whichever others come and go meanwhile. */
const LET_GO = { '$deleteFromPrimitiveList/finalizers': [RECLAIM_FINALIZER] };

/** What is to be done about the finalizer of a volume. */
export type FinalizerStep = 'hold' | 'let go' | 'release';

/** Made by dvflow, and to be deleted by its policy: its data is dvflow's to remove. Another provisioner's volume is never touched. */
export function isToBeEmptied({ metadata, spec }: V1PersistentVolume): boolean {
  const { annotations = {} } = metadata ?? {};
  return (
    spec?.persistentVolumeReclaimPolicy === 'Delete' &&
    HOSTPATH_PROVISIONERS.includes(annotations[PROVISIONED_BY] ?? '') &&
    annotations.hostPathProvisionerIdentity === IDENTITY
  );
}

/**
 * What the volume lacks. `hold`: its data is to be removed before it goes, and nothing says so yet. `let go`: its data is nobody's to
 * remove (the policy is `Retain`), so whoever deletes the object need not wait. `release`: it goes and has no claim, so that Kubernetes
 * would never call it Released, and nobody would empty it.
 */
export function finalizerStep(volume: V1PersistentVolume): FinalizerStep | undefined {
  const { metadata, spec, status } = volume;
  const held = metadata?.finalizers?.includes(RECLAIM_FINALIZER) ?? false;
  if (!isToBeEmptied(volume)) return held ? 'let go' : undefined;
  // the API server adds none to what is being deleted
  if (!metadata?.deletionTimestamp) return held ? undefined : 'hold';
  // what bears the mark of a run is that run's
  const free = metadata.labels?.[MARKS.unpublished] === undefined && spec?.claimRef?.uid === undefined;
  return held && free && status?.phase === 'Available' ? 'release' : undefined;
}

/** Does what {@link finalizerStep} says; a volume that has changed since it was read is left to the next look. */
export async function keepFinalizer(kubernetes: Kubernetes, volume: V1PersistentVolume): Promise<void> {
  const body = bodyOf(volume);
  if (body) await patch(kubernetes, volume.metadata?.name ?? '', body);
}

function bodyOf(volume: V1PersistentVolume): object | undefined {
  const { uid = '', resourceVersion } = volume.metadata ?? {};
  const expected = { uid, resourceVersion };
  switch (finalizerStep(volume)) {
    case 'hold':
      return { metadata: { ...expected, finalizers: [RECLAIM_FINALIZER] } };
    case 'let go':
      return { metadata: { ...expected, ...LET_GO } };
    case 'release': {
      // no claim has the uid of a volume
      const nobody = { namespace: OWN_NAMESPACE, name: `retired-${uid}`, uid };
      const claimRef = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', ...nobody };
      return { metadata: expected, spec: { claimRef } };
    }
    case undefined:
      return undefined;
  }
}

/** Takes the finalizer off: nothing is behind the volume, or what is has another owner. */
export async function letGo(kubernetes: Kubernetes, name: string, uid: string): Promise<void> {
  const outcome = await patch(kubernetes, name, { metadata: { uid, ...LET_GO } });
  // the API server gives up on a patch when others write at the same time
  if (outcome === 'conflict') throw changedMeanwhile(name);
}

/**
 * Deletes a volume. First the deletion, then the finalizer: what is being deleted gets none anew. Called again after a death in
 * between, it does the rest. The finalizer stays where a claim has or had the volume and nobody has said that it is `emptied`: reclaiming
 * removes the data, whether or not a mark still leads to it, and takes the finalizer off.
 */
export async function deleteVolumeObject(
  kubernetes: Kubernetes,
  name: string,
  preconditions: { readonly uid: string; readonly resourceVersion?: string },
  { emptied = false } = {},
): Promise<'deleted' | 'conflict' | 'gone'> {
  const outcome = await callForOutcome(
    `deleting volume ${name}`,
    kubernetes.core.deletePersistentVolume({ name, body: { preconditions } }),
  );
  if (typeof outcome === 'string') return outcome;
  const hadClaim = outcome.status?.phase === 'Bound' || outcome.status?.phase === 'Released';
  const isHeld = outcome.metadata?.finalizers?.includes(RECLAIM_FINALIZER) ?? false;
  if (isHeld && (emptied || !hadClaim || !isToBeEmptied(outcome)))
    await letGo(kubernetes, name, preconditions.uid);
  return 'deleted';
}

async function patch(
  { core }: Kubernetes,
  name: string,
  body: object,
): Promise<'patched' | 'conflict' | 'gone'> {
  const strategic = setHeaderOptions('Content-Type', PatchStrategy.StrategicMergePatch);
  const doing = `changing the finalizer of volume ${name}`;
  const outcome = await callForOutcome(doing, core.patchPersistentVolume({ name, body }, strategic), CHANGED);
  return typeof outcome === 'string' ? outcome : 'patched';
}
