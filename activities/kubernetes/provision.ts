/** Volumes for plain claims: what a claim will get, and what is said about it. */
import type { V1PersistentVolumeClaim, V1StorageClass } from '@kubernetes/client-node';
import { failureTypeOf } from '../failures.js';
import type { ClaimRef, DataVolumeEvent, PoolRef } from '../types.js';
import type { ClaimVerdict, ProvisionActivities, VolumePlan } from '../types/provision.js';
import { callIfFound } from './client.js';
import type { Kubernetes } from './client.js';
import { findClaim } from './claim-object.js';
import { isOtherWorkflow, refuseOtherWorkflow } from './claim-workflows.js';
import { recordEvent } from './events.js';
import { provisionWorkflowId } from './names.js';
import { classNameOf, isHostpathClass, isPending, refusalOf, waitsForData } from './plain-claims.js';
import { choosePool, listUsablePools } from './pools.js';
import { sizeBytes } from './quantity.js';

/** Activities of plain claims. */
export function createProvisionActivities({
  kubernetes,
}: {
  kubernetes: Kubernetes;
}): Pick<ProvisionActivities, 'planVolume' | 'recordClaimEvent'> {
  async function planVolume({ claim: ref }: { claim: ClaimRef }): Promise<ClaimVerdict> {
    refuseOtherWorkflow(provisionWorkflowId(ref), ref);
    const claim = await findClaim(kubernetes, ref);
    if (!claim) return { done: 'the claim is gone' };
    if (!isPending(claim)) return { done: 'the claim has a volume or is being deleted' };
    if (waitsForData(claim)) return { done: 'the claim waits for data' };
    const verdict = await judge(claim);
    if (verdict.refused)
      await say(ref, { type: 'Warning', reason: 'ProvisioningFailed', message: verdict.refused });
    if (verdict.plan) await say(ref, provisioning(ref));
    return verdict;
  }

  async function judge(claim: V1PersistentVolumeClaim): Promise<ClaimVerdict> {
    const name = classNameOf(claim);
    if (!name) return { done: 'the claim names no StorageClass' };
    const storageClass = await callIfFound(
      `reading StorageClass ${name}`,
      kubernetes.storage.readStorageClass({ name }),
    );
    if (!storageClass) return { missing: `StorageClass "${name}" does not exist` };
    if (!isHostpathClass(storageClass))
      return { done: `StorageClass "${name}" belongs to provisioner ${storageClass.provisioner}` };
    const refused = refusalOf(claim, storageClass.provisioner);
    if (refused) return { refused };
    const { pools, refusals } = await listUsablePools(kubernetes);
    try {
      return { plan: planOf(claim, storageClass, choosePool(storageClass, pools, refusals)) };
    } catch (error) {
      // an administrator can still make the pool
      if (failureTypeOf(error) !== 'StorageClassNotFound') throw error;
      return { missing: (error as Error).message };
    }
  }

  async function say({ namespace, name, uid }: ClaimRef, event: DataVolumeEvent): Promise<void> {
    const about = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace, name, uid };
    await recordEvent(kubernetes, about, event);
  }

  async function recordClaimEvent({
    claim,
    event,
  }: {
    claim: ClaimRef;
    event: DataVolumeEvent;
  }): Promise<void> {
    // a workflow that was refused has nothing to say about what another one does
    if (!isOtherWorkflow(provisionWorkflowId(claim))) await say(claim, event);
  }

  return { planVolume, recordClaimEvent };
}

/** As `provisionClaimOperation` of sig-storage-lib-external-provisioner says it. */
function provisioning({ namespace, name }: ClaimRef): DataVolumeEvent {
  const message = `External provisioner is provisioning volume for claim "${namespace}/${name}"`;
  return { type: 'Normal', reason: 'Provisioning', message };
}

function planOf({ spec }: V1PersistentVolumeClaim, storageClass: V1StorageClass, pool: PoolRef): VolumePlan {
  return {
    storageClass: storageClass.metadata?.name ?? '',
    provisioner: storageClass.provisioner,
    reclaimPolicy: storageClass.reclaimPolicy === 'Retain' ? 'Retain' : 'Delete',
    waitForConsumer: storageClass.volumeBindingMode === 'WaitForFirstConsumer',
    accessModes: spec?.accessModes ?? [],
    volumeMode: 'Filesystem',
    requestBytes: sizeBytes(spec?.resources?.requests?.storage ?? '0', 'spec.resources.requests.storage'),
    pool,
  };
}
