/**
 * A claim that dvflow made and Kubernetes bound to another volume: what that holds is somebody's, and deleting the claim would take it
 * along, whatever its run has come to.
 */
import type { V1PersistentVolume, V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { transientFailure } from '../failures.js';
import type { DataVolumeRef } from '../types.js';
import { patchClaim, UNMARKED } from './claim-object.js';
import { callIfFound, listVolumes } from './client.js';
import type { Kubernetes } from './client.js';
import { asksForKept } from './kept-volumes.js';
import { CDI_ANNOTATIONS, MARKS, volumeName } from './names.js';

/** Annotation of Kubernetes' on a volume that was nobody's before it chose the claim for it. */
const BOUND_BY_CONTROLLER = 'pv.kubernetes.io/bound-by-controller';

/** The volume that a claim got, where dvflow has neither made nor reserved it for the claim. */
export function foreignVolumeOf({ metadata, spec }: V1PersistentVolumeClaim): string | undefined {
  const { uid = '', annotations } = metadata ?? {};
  const volume = spec?.volumeName || undefined;
  return volume === volumeName(uid) || volume === annotations?.[MARKS.reservedVolume] ? undefined : volume;
}

/**
 * Lets a claim go that has a foreign volume: neither dvflow nor the end of the DataVolume removes it any more. Where the volume was kept
 * for the claim, and the DataVolume asks for that, the next run has it as it is (`kept-volumes.ts`); any other is nobody's disk.
 */
export async function letForeignGo(
  kubernetes: Kubernetes,
  dataVolume: DataVolumeRef,
  claim: V1PersistentVolumeClaim,
): Promise<void> {
  const { namespace = '', name = '', uid = '', resourceVersion, ownerReferences = [] } = claim.metadata ?? {};
  const volume = claim.spec?.volumeName ?? '';
  const kept = asksForKept(claim) && (await wasKept(kubernetes, volume));
  const answer = await patchClaim(
    kubernetes,
    { namespace, name, uid },
    {
      metadata: {
        uid,
        resourceVersion,
        labels: UNMARKED.labels,
        annotations: {
          ...UNMARKED.annotations,
          // it is not what this DataVolume made, and nobody is to write into it
          [CDI_ANNOTATIONS.createdFor]: null,
          [CDI_ANNOTATIONS.populatedFor]: null,
          [CDI_ANNOTATIONS.uploadTarget]: null,
          [CDI_ANNOTATIONS.podReady]: null,
          [CDI_ANNOTATIONS.persistentVolumeList]: kept ? JSON.stringify([volume]) : null,
        },
        ownerReferences: ownerReferences.filter((owner) => owner.uid !== dataVolume.uid),
      },
    },
  );
  if (answer === 'conflict') throw changed(claim, 'it changed meanwhile');
}

/**
 * Kubernetes writes the volume first, and the claim a moment later: deleted in between, the claim would take the volume along.
 *
 * @throws {@link FailureType} `KubernetesUnavailable`, to be looked at again, where a kept volume has come for the claim
 */
export async function awaitKeptVolume({ core }: Kubernetes, claim: V1PersistentVolumeClaim): Promise<void> {
  if (claim.spec?.volumeName || !asksForKept(claim)) return;
  const { uid = '' } = claim.metadata ?? {};
  const volumes = await listVolumes({ core });
  const coming = volumes.find(
    ({ metadata, spec }) => spec?.claimRef?.uid === uid && metadata?.name !== volumeName(uid),
  );
  if (coming) throw changed(claim, `it gets PersistentVolume ${coming.metadata?.name}`);
}

/** Somebody else than Kubernetes has named the claim in it. */
async function wasKept({ core }: Kubernetes, name: string): Promise<boolean> {
  const volume: V1PersistentVolume | undefined = await callIfFound(
    `reading volume ${name}`,
    core.readPersistentVolume({ name }),
  );
  return volume !== undefined && volume.metadata?.annotations?.[BOUND_BY_CONTROLLER] === undefined;
}

function changed({ metadata }: V1PersistentVolumeClaim, why: string): Error {
  return transientFailure(
    'KubernetesUnavailable',
    `letting claim ${metadata?.namespace}/${metadata?.name} go: ${why}`,
    { nextRetryDelayMs: 200 },
  );
}
