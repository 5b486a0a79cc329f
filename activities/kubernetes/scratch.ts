/** The claim and the volume of scratch space, in dvflow's own namespace: made for one transfer, never offered to anybody. */
import { Context } from '@temporalio/activity';
import type { V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { permanentFailure, transientFailure } from '../failures.js';
import { scratchReason } from '../image/refusals.js';
import type { ControlActivities } from '../interfaces.js';
import type { ClaimRef, DataVolumeRef } from '../types.js';
import type { ScratchActivities, ScratchClaim, ScratchPlan } from '../types/scratch.js';
import { call, callForOutcome, callIfFound, callUnlessConflict, listAll } from './client.js';
import type { Kubernetes } from './client.js';
import { changeClaimIfThere, findClaim, patchClaim, findClaimNamed } from './claim-object.js';
import { CDI_ANNOTATIONS, MARKS, PROVISION_ON_NODE, scratchName, SELECTED_NODE } from './names.js';
import { foreignBytes, readVolumes } from './foreign-volumes.js';
import { allows } from './nodes.js';
import { isSame, scratchClaim, scratchVolume, whyUnbound } from './scratch-objects.js';
import { planScratch as plan } from './scratch-plan.js';
import { readCdiConfig } from './storage-classes.js';
import { listUsablePools } from './pools.js';
import { deleteVolumeObject } from './volume-finalizer.js';

/** How long one look waits for the claim to be Bound; a touched claim is in under a second (`kubernetes-mechanisms.md` §2). In ms. */
const BOUND_WITHIN_MS = 8000;
const BOUND_POLL_MS = 500;
/** Kubernetes takes a moment to let go of what is being deleted. */
const AGAIN_MS = 2000;

/** What the activities of scratch space need. */
export interface ScratchDependencies {
  readonly kubernetes: Kubernetes;
  /** Namespace of the claims. */
  readonly transferNamespace: string;
}

/** Activities of scratch space. */
export function createScratchActivities({
  kubernetes,
  transferNamespace: namespace,
}: ScratchDependencies): Pick<ControlActivities, keyof ScratchActivities> {
  const { core, storage } = kubernetes;

  async function planScratch({
    target,
    image,
    reason,
  }: Parameters<ScratchActivities['planScratch']>[0]): Promise<ScratchPlan> {
    const [config, classes, { pools }] = await Promise.all([
      readCdiConfig(kubernetes),
      listAll('listing StorageClasses', (page) => storage.listStorageClass(page)),
      listUsablePools(kubernetes),
    ]);
    return plan({ config, classes, pools, target, image, reason: scratchReason(reason) });
  }

  async function ensureScratchClaim(
    input: Parameters<ScratchActivities['ensureScratchClaim']>[0],
  ): Promise<ScratchClaim> {
    const { claim: owned, plan: planned, hostname } = input;
    await refuseForbiddenNode(input);
    const claim = await createClaim(input.dataVolume, planned);
    await annotate(owned);
    return { claim, foreignBytes: foreignBytes(await readVolumes(kubernetes), planned.pool, hostname) };
  }

  /** The user's claim; if it is gone, whoever needs it next says so. */
  async function annotate(owned: ClaimRef): Promise<void> {
    if (!(await findClaim(kubernetes, owned))) return;
    const annotations = { [CDI_ANNOTATIONS.requiresScratch]: 'true' };
    await changeClaimIfThere(kubernetes, owned, { metadata: { uid: owned.uid, annotations } });
  }

  /** Scratch space lies where the target lies, so the class has no say but this one. */
  async function refuseForbiddenNode(input: { plan: ScratchPlan; node: string }): Promise<void> {
    const { node: name, plan: planned } = input;
    const found = await callIfFound(
      `reading StorageClass ${planned.storageClass}`,
      storage.readStorageClass({ name: planned.storageClass }),
    );
    const topologies = found?.allowedTopologies ?? [];
    if (topologies.length === 0) return;
    const node = await call(`reading node ${name}`, core.readNode({ name }));
    if (topologies.some((term) => allows(term, node.metadata?.labels ?? {}))) return;
    throw permanentFailure(
      'ScratchSpaceRequired',
      `image needs scratch space on node ${name} (${planned.reason}), which is not in allowedTopologies of StorageClass ` +
        `"${planned.storageClass}": set spec.scratchSpaceStorageClass of CDIConfig config to a class that allows it`,
    );
  }

  async function createClaim(dataVolume: DataVolumeRef, planned: ScratchPlan): Promise<ClaimRef> {
    const { workflowId = '' } = Context.current().info.workflowExecution ?? {};
    const body = scratchClaim({ namespace, dataVolume, planned, workflowId });
    const name = scratchName(dataVolume.uid);
    const created = await callUnlessConflict(
      `creating scratch claim ${namespace}/${name}`,
      core.createNamespacedPersistentVolumeClaim({ namespace, body }),
    );
    if (created !== 'conflict') return refOf(created);
    const found = await findScratch(name);
    if (found && isSame(found, body)) return refOf(found);
    // what another run of this DataVolume left would be swept away under this one
    if (found) await removeClaim(found, dataVolume);
    throw goingAway(`claim ${namespace}/${name}`);
  }

  async function findScratch(name: string): Promise<V1PersistentVolumeClaim | undefined> {
    return await findClaimNamed(kubernetes, { namespace, name });
  }

  async function bindScratch(
    input: Parameters<ScratchActivities['bindScratch']>[0],
  ): Promise<{ unbound?: string }> {
    const { claim, directory } = input;
    const context = Context.current();
    for (const end = Date.now() + BOUND_WITHIN_MS; ;) {
      const found = await findClaim(kubernetes, claim);
      if (found?.status?.phase === 'Bound') return {};
      if (!found || Date.now() > end) return { unbound: whyUnbound(claim, input.plan, found) };
      await offer(input);
      await touch(claim, directory.node);
      await context.sleep(BOUND_POLL_MS);
    }
  }

  /** Kubernetes looks at a claim that names its volume every 15 s, and at once when it changes; it may not have seen the volume yet. */
  async function touch(claim: ClaimRef, node: string): Promise<void> {
    const annotations = {
      [SELECTED_NODE]: node,
      [PROVISION_ON_NODE]: node,
      [MARKS.touched]: new Date().toISOString(),
    };
    await patchClaim(kubernetes, claim, { metadata: { uid: claim.uid, annotations } });
  }

  async function offer(input: Parameters<ScratchActivities['bindScratch']>[0]): Promise<void> {
    const { workflowId = '' } = Context.current().info.workflowExecution ?? {};
    const body = scratchVolume(input, workflowId);
    const name = scratchName(input.dataVolume.uid);
    const created = await callUnlessConflict(
      `creating volume ${name}`,
      core.createPersistentVolume({ body }),
    );
    if (created !== 'conflict') return;
    const found = await callIfFound(`reading volume ${name}`, core.readPersistentVolume({ name }));
    const same =
      !found?.metadata?.deletionTimestamp &&
      found?.spec?.claimRef?.uid === input.claim.uid &&
      found.spec.hostPath?.path === body.spec?.hostPath?.path;
    if (same) return;
    await removeVolume(input.dataVolume);
    throw goingAway(`volume ${name}`);
  }

  async function deleteScratch({ dataVolume }: { dataVolume: DataVolumeRef }): Promise<void> {
    const found = await findScratch(scratchName(dataVolume.uid));
    if (found) await removeClaim(found, dataVolume);
    await removeVolume(dataVolume);
  }

  async function removeClaim({ metadata }: V1PersistentVolumeClaim, { uid }: DataVolumeRef): Promise<void> {
    const name = metadata?.name ?? '';
    if (metadata?.labels?.[MARKS.unpublished] !== uid) throw notOurs(`claim ${namespace}/${name}`);
    const body = { preconditions: { uid: metadata.uid ?? '' } };
    await callForOutcome(
      `deleting claim ${namespace}/${name}`,
      core.deleteNamespacedPersistentVolumeClaim({ namespace, name, body }),
    );
  }

  async function removeVolume({ uid }: DataVolumeRef): Promise<void> {
    const name = scratchName(uid);
    const found = await callIfFound(`reading volume ${name}`, core.readPersistentVolume({ name }));
    if (!found) return;
    if (found.metadata?.labels?.[MARKS.unpublished] !== uid) throw notOurs(`PersistentVolume ${name}`);
    await deleteVolumeObject(kubernetes, name, { uid: found.metadata.uid ?? '' });
  }

  return { planScratch, ensureScratchClaim, bindScratch, deleteScratch };
}

function goingAway(what: string): Error {
  return transientFailure('KubernetesUnavailable', `${what} of an earlier run is being removed`, {
    nextRetryDelayMs: AGAIN_MS,
  });
}

function notOurs(what: string): Error {
  return permanentFailure('ResourceExists', `${what} exists and is not this DataVolume's scratch space`);
}

function refOf({ metadata }: V1PersistentVolumeClaim): ClaimRef {
  return { namespace: metadata?.namespace ?? '', name: metadata?.name ?? '', uid: metadata?.uid ?? '' };
}
