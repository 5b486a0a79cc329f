/** One claim, found by name and uid, and changed only if it is still that one. */
import type { V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { permanentFailure, transientFailure } from '../failures.js';
import type { ClaimRef } from '../types.js';
import { callForOutcome, callIfFound, MERGE_PATCH } from './client.js';
import type { Kubernetes } from './client.js';
import { MARKS } from './names.js';

/** The claim of this name and uid; `undefined` when it is gone. */
export async function findClaim(
  kubernetes: Kubernetes,
  ref: ClaimRef,
): Promise<V1PersistentVolumeClaim | undefined> {
  const found = await findClaimNamed(kubernetes, ref);
  return found?.metadata?.uid === ref.uid ? found : undefined;
}

/** The claim of this name, whichever it is; `undefined` when there is none. */
export async function findClaimNamed(
  { core }: Pick<Kubernetes, 'core'>,
  { namespace, name }: Pick<ClaimRef, 'namespace' | 'name'>,
): Promise<V1PersistentVolumeClaim | undefined> {
  return await callIfFound(
    `reading claim ${namespace}/${name}`,
    core.readNamespacedPersistentVolumeClaim({ namespace, name }),
  );
}

/**
 * The claim of this name and uid, alive.
 *
 * @throws {@link FailureType} `ClaimLost`
 */
export async function readClaim(kubernetes: Kubernetes, ref: ClaimRef): Promise<V1PersistentVolumeClaim> {
  const found = await findClaim(kubernetes, ref);
  if (!found || found.metadata?.deletionTimestamp || found.status?.phase === 'Lost') throw claimLost(ref);
  return found;
}

/** The ownerReference that controls an object. */
export function controllerOf(
  claim: Pick<V1PersistentVolumeClaim, 'metadata'>,
): { kind: string; name: string; uid: string } | undefined {
  return claim.metadata?.ownerReferences?.find(({ controller }) => controller);
}

/** Somebody removed the claim while its disk was being filled. */
export function claimLost({ namespace, name, uid }: ClaimRef): Error {
  return permanentFailure('ClaimLost', `claim ${namespace}/${name} (${uid}) was deleted or lost its volume`);
}

/** Changes a claim, if it is still that one. `'conflict'`: it is not, or it changed since it was read. */
export async function patchClaim(
  { core }: Kubernetes,
  ref: ClaimRef,
  body: object,
): Promise<'conflict' | 'patched' | 'gone'> {
  const { namespace, name } = ref;
  const outcome = await callForOutcome(
    `changing claim ${namespace}/${name}`,
    core.patchNamespacedPersistentVolumeClaim({ namespace, name, body }, MERGE_PATCH),
  );
  return typeof outcome === 'string' ? outcome : 'patched';
}

/**
 * Changes a claim that is to be there still.
 *
 * @throws {@link FailureType} `ClaimLost`
 */
export async function changeClaim(kubernetes: Kubernetes, ref: ClaimRef, body: object): Promise<void> {
  if ((await changeClaimIfThere(kubernetes, ref, body)) === 'gone') throw claimLost(ref);
}

/** {@link changeClaim} of a claim whose end is somebody else's to notice. Busy writers do not keep it from being changed. */
export async function changeClaimIfThere(
  kubernetes: Kubernetes,
  ref: ClaimRef,
  body: object,
): Promise<'patched' | 'gone'> {
  const answer = await patchClaim(kubernetes, ref, body);
  if (answer !== 'conflict') return answer;
  // another uid under this name is a conflict, and so is a patch that the API server gives up because others write at the same time
  if (!(await findClaim(kubernetes, ref))) return 'gone';
  throw transientFailure('KubernetesUnavailable', `claim ${ref.namespace}/${ref.name} changed meanwhile`, {
    nextRetryDelayMs: 200,
  });
}

/** Change of an object by which it is published: nobody's work, and no sweeper's, any more. */
export const UNMARKED = {
  labels: { [MARKS.unpublished]: null },
  annotations: { [MARKS.workflowId]: null, [MARKS.dataVolume]: null, [MARKS.renewedBy]: null },
};
