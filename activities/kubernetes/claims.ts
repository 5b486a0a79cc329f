/** The user's claim: made Pending with everything on it in one call, adopted, removed. */
import { Context } from '@temporalio/activity';
import type { V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { permanentFailure, transientFailure } from '../failures.js';
import type { ControlActivities } from '../interfaces.js';
import type { ClaimRef, DataVolumeRef, TargetPlan } from '../types.js';
import { isOffered, judge } from './adoption.js';
import { callForOutcome, callIfFound, callUnlessConflict } from './client.js';
import type { Kubernetes } from './client.js';
import { readDataVolume } from './data-volumes.js';
import { claimBody, ownerReference } from './claim-body.js';
import { controllerOf, findClaim, findClaimNamed, patchClaim, readClaim, UNMARKED } from './claim-object.js';
import { awaitKeptVolume, foreignVolumeOf, letForeignGo } from './foreign-claim.js';
import { confirmReserved, refuseBoundEarly } from './hand-over.js';
import { CDI_ANNOTATIONS, MARKS, volumeName } from './names.js';
import { parseQuantity } from './quantity.js';
import { deleteVolumeObject } from './volume-finalizer.js';

/** Activities that make and remove claims. */
export function createClaimActivities({
  kubernetes,
}: {
  kubernetes: Kubernetes;
}): Pick<ControlActivities, 'ensureClaim' | 'adoptClaim' | 'confirmClaim' | 'deleteClaim'> {
  const { core } = kubernetes;

  async function ensureClaim(input: Parameters<ControlActivities['ensureClaim']>[0]): Promise<ClaimRef> {
    const { namespace, name, uid } = input.dataVolume;
    const dataVolume = await readDataVolume(kubernetes, input.dataVolume);
    const workflowId = Context.current().info.workflowExecution?.workflowId ?? '';
    const created = await callUnlessConflict(
      `creating claim ${namespace}/${name}`,
      core.createNamespacedPersistentVolumeClaim({
        namespace,
        body: claimBody(dataVolume, { ...input, workflowId }),
      }),
    );
    if (created !== 'conflict') return refOf(created);
    const found = await findClaimNamed(kubernetes, { namespace, name });
    if (!found)
      throw transientFailure(
        'KubernetesUnavailable',
        `claim ${namespace}/${name} exists and is gone: creating it again`,
      );
    // `judge` refuses whatever is not this DataVolume's own
    const { claim, waiting } = judge(found, dataVolume, undefined);
    if (waiting) throw transientFailure('KubernetesUnavailable', waiting.message, { nextRetryDelayMs: 2000 });
    if (claim === 'create' && input.reserved) await replaceOther(found, input.reserved.volume);
    if (claim === 'create' && controllerOf(found)?.uid === uid) {
      refuseOtherSize(found, input.target);
      await renew(found, workflowId);
      return refOf(found);
    }
    throw permanentFailure('ResourceExists', `claim ${namespace}/${name} already exists and holds data`);
  }

  /**
   * Made by an earlier run, perhaps of another workflow, for whose end a sweeper may be about to remove it: that finds a mark that
   * is this one's, or another version of the claim than it has looked at.
   */
  async function renew(found: V1PersistentVolumeClaim, workflowId: string): Promise<void> {
    const { runId = '' } = Context.current().info.workflowExecution ?? {};
    const claim = refOf(found);
    const { uid, resourceVersion } = found.metadata ?? {};
    const annotations = { [MARKS.workflowId]: workflowId, [MARKS.renewedBy]: runId };
    // the run before may be publishing it still: its version tells
    const outcome = await patchClaim(kubernetes, claim, { metadata: { uid, resourceVersion, annotations } });
    if (outcome === 'patched') return;
    const what = `claim ${claim.namespace}/${claim.name} of an earlier run`;
    throw transientFailure('KubernetesUnavailable', `${what} is gone or changed: looking at it again`, {
      nextRetryDelayMs: 200,
    });
  }

  /** A claim of an earlier run that waits for another volume is of no use. */
  async function replaceOther(found: V1PersistentVolumeClaim, volume: string): Promise<void> {
    if (found.spec?.volumeName === volume) return;
    const { namespace, name, uid } = refOf(found);
    const { resourceVersion = '' } = found.metadata ?? {};
    await callForOutcome(
      `deleting claim ${namespace}/${name}`,
      core.deleteNamespacedPersistentVolumeClaim({
        namespace,
        name,
        body: { preconditions: { uid, resourceVersion } },
      }),
    );
    throw transientFailure(
      'KubernetesUnavailable',
      `claim ${namespace}/${name} of an earlier run was made for another volume: creating it again`,
    );
  }

  async function adoptClaim(input: {
    dataVolume: DataVolumeRef;
    claimUid: string;
  }): Promise<ClaimRef & { readonly volume?: string }> {
    const { namespace, name, uid } = input.dataVolume;
    const ref = { namespace, name, uid: input.claimUid };
    const found = await readClaim(kubernetes, ref);
    const owner = controllerOf(found);
    if (owner && owner.uid !== uid) {
      throw permanentFailure(
        'ResourceExists',
        `claim ${namespace}/${name} is managed by ${owner.kind} ${owner.name}`,
      );
    }
    const volume = found.status?.phase === 'Bound' ? found.spec?.volumeName : undefined;
    const isMarked = found.metadata?.labels?.[MARKS.unpublished] !== undefined;
    if (owner && !isMarked) return { ...ref, ...(volume ? { volume } : {}) };
    const { resourceVersion, ownerReferences = [] } = found.metadata ?? {};
    const answer = await patchClaim(kubernetes, ref, {
      metadata: {
        uid: ref.uid,
        resourceVersion,
        ...(owner ? {} : { ownerReferences: [...ownerReferences, ownerReference(input.dataVolume)] }),
        // whose run had ended before it could say that the disk is there
        ...(isMarked ? UNMARKED : {}),
      },
    });
    if (answer !== 'patched')
      throw transientFailure(
        'KubernetesUnavailable',
        `claim ${namespace}/${name} changed: adopting it again`,
      );
    return { ...ref, ...(volume ? { volume } : {}) };
  }

  async function deleteClaim({
    dataVolume,
    claim,
  }: {
    dataVolume: DataVolumeRef;
    claim: ClaimRef;
  }): Promise<void> {
    const found = claim.uid === '' ? await findMade(dataVolume, claim) : await findClaim(kubernetes, claim);
    // a claim without the mark is published, and a finished disk is the user's
    if (found?.metadata?.labels?.[MARKS.unpublished] !== dataVolume.uid) return;
    if (foreignVolumeOf(found) !== undefined) {
      // the volume that was made for it names this claim, which stays
      await deleteMarkedVolume(dataVolume, refOf(found));
      return await letForeignGo(kubernetes, dataVolume, found);
    }
    await awaitKeptVolume(kubernetes, found);
    const { namespace, name, uid } = refOf(found);
    const { resourceVersion = '' } = found.metadata;
    const doing = `deleting claim ${namespace}/${name}`;
    const outcome = await callForOutcome(
      doing,
      core.deleteNamespacedPersistentVolumeClaim({
        namespace,
        name,
        body: { preconditions: { uid, resourceVersion } },
      }),
    );
    if (outcome === 'conflict')
      throw transientFailure('KubernetesUnavailable', `${doing}: it changed meanwhile`);
    if (isOffered(found)) await deleteMarkedVolume(dataVolume, refOf(found));
  }

  /** The claim that this DataVolume made, where the workflow ended before it was told the uid. */
  async function findMade({ uid }: DataVolumeRef, { namespace, name }: ClaimRef) {
    const found = await findClaimNamed(kubernetes, { namespace, name });
    return found?.metadata?.annotations?.[CDI_ANNOTATIONS.createdFor] === uid ? found : undefined;
  }

  /** The volume of a claim that was Bound and not yet published; it goes when the claim is gone. */
  async function deleteMarkedVolume(dataVolume: DataVolumeRef, claim: ClaimRef): Promise<void> {
    const name = volumeName(claim.uid);
    const volume = await callIfFound(`reading volume ${name}`, core.readPersistentVolume({ name }));
    if (volume?.metadata?.labels?.[MARKS.unpublished] !== dataVolume.uid) return;
    await deleteVolumeObject(kubernetes, name, { uid: volume.metadata.uid ?? '' });
  }

  async function confirmClaim({
    claim,
    volume,
  }: Parameters<ControlActivities['confirmClaim']>[0]): Promise<void> {
    refuseBoundEarly(await readClaim(kubernetes, claim));
    if (volume) await confirmReserved(kubernetes, claim, volume);
  }

  return { ensureClaim, adoptClaim, confirmClaim, deleteClaim };
}

/** A disk is made as large as its plan says, and the claim that an earlier run made must say the same. */
function refuseOtherSize(
  { metadata, spec }: V1PersistentVolumeClaim,
  { requestBytes }: Pick<TargetPlan, 'requestBytes'>,
): void {
  const asked = Number(parseQuantity(spec?.resources?.requests?.storage ?? '0') ?? 0n);
  if (asked === requestBytes) return;
  throw permanentFailure(
    'IncompatiblePVC',
    `claim ${metadata?.namespace}/${metadata?.name} of an earlier run asks for ${asked} bytes, the disk needs a claim of ${requestBytes} by now: ` +
      'the claim goes with this failure, retry to get one of that size',
  );
}

function refOf({ metadata }: V1PersistentVolumeClaim): ClaimRef {
  return { namespace: metadata?.namespace ?? '', name: metadata?.name ?? '', uid: metadata?.uid ?? '' };
}
