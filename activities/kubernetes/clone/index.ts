/** What a clone asks of Kubernetes. */
import type { ControlActivities } from '../../interfaces.js';
import type { CloneControlActivities, CloneOrigin, OriginAwaited, SourceContent } from '../../types/clone.js';
import type { CloneSourceActivities } from '../../types/clone-sources.js';
import type { DataVolumeRef, TargetPlan } from '../../types.js';
import { judgeClaim } from '../adoption.js';
import { callForOutcome, MERGE_PATCH } from '../client.js';
import type { Kubernetes } from '../client.js';
import { changeClaimIfThere } from '../claim-object.js';
import { dataVolumePath, readDataVolume } from '../data-volumes.js';
import { recordEvent } from '../events.js';
import { CDI_GROUP, CDI_VERSION, MARKS } from '../names.js';
import type { DataVolume } from '../objects.js';
import { readCdiConfig } from '../storage-classes.js';
import type { ClaimPlanner } from '../targets.js';
import { isTargetKept } from './kept-target.js';
import { createOriginFinder } from './origin.js';
import { judgeClone, PERMISSIVE_CLONE } from './rules.js';

/** CDI's annotations of a clone (`cdi.md` §4.3, §4.6). */
const CLONE_TYPE = 'cdi.kubevirt.io/cloneType';
const FALLBACK_REASON = 'cdi.kubevirt.io/cloneFallbackReason';
const CLONE_OF = 'k8s.io/CloneOf';

/** What the activities of clones need. */
export interface CloneDependencies {
  readonly kubernetes: Kubernetes;
  readonly resolve: CloneSourceActivities['resolveCloneSource'];
  readonly planClaim: ClaimPlanner;
}

/** Activities of clones. */
export function createCloneActivities(
  dependencies: CloneDependencies,
): Pick<ControlActivities, keyof CloneControlActivities> {
  const { kubernetes, planClaim } = dependencies;
  const findOrigin = createOriginFinder(dependencies);

  async function findCloneOrigin(
    input: Parameters<CloneControlActivities['findCloneOrigin']>[0],
  ): Promise<CloneOrigin | OriginAwaited> {
    const origin = await findOrigin(input);
    // once the clone has begun its claim is there
    if (!origin.waiting || input.found || !(await isTargetKept(kubernetes, input.dataVolume))) return origin;
    return { ...origin, kept: true };
  }

  async function planClone({
    dataVolume: ref,
    origin,
    content,
  }: Parameters<CloneControlActivities['planClone']>[0]): Promise<TargetPlan> {
    const dataVolume = await readDataVolume(kubernetes, ref);
    const sized = withSize(dataVolume, origin, content);
    const target = await planClaim(sized, await readCdiConfig(kubernetes));
    judgeClone({
      claim: `${ref.namespace}/${ref.name}`,
      contentType: dataVolume.spec.contentType || 'kubevirt',
      target,
      origin,
      content,
      permissive: sized !== dataVolume || dataVolume.metadata.annotations?.[PERMISSIVE_CLONE] !== undefined,
    });
    return target;
  }

  async function annotateClone({
    dataVolume,
    claim,
    strategy,
    complete,
    origin,
    event,
  }: Parameters<CloneControlActivities['annotateClone']>[0]): Promise<void> {
    const annotations = {
      ...(strategy ? { [CLONE_TYPE]: 'copy', [FALLBACK_REASON]: strategy.fallback ?? null } : {}),
      ...(complete ? { [CLONE_OF]: 'true' } : {}),
    };
    // one that is gone is the next step's to notice
    await changeClaimIfThere(kubernetes, claim, { metadata: { uid: claim.uid, annotations } });
    if (strategy) await tell(dataVolume, origin);
    if (complete) await changeDataVolume(dataVolume, { annotations: { [MARKS.cloneSource]: null } });
    if (!event) return;
    const { namespace, name, uid } = dataVolume;
    const about = { apiVersion: `${CDI_GROUP}/${CDI_VERSION}`, kind: 'DataVolume', namespace, name, uid };
    await recordEvent(kubernetes, about, event);
  }

  /** Clients of CDI read the type on the DataVolume, and what machines of the disk are like; dvflow's watch what is cloned. */
  async function tell(dataVolume: DataVolumeRef, origin: CloneOrigin | undefined): Promise<void> {
    const { claim, labels } = origin ?? {};
    const annotations = {
      [CLONE_TYPE]: 'copy',
      ...(claim ? { [MARKS.cloneSource]: `${claim.namespace}/${claim.name}` } : {}),
    };
    if (!labels) return await changeDataVolume(dataVolume, { annotations });
    const { metadata } = await readDataVolume(kubernetes, dataVolume);
    // what the user says goes before
    const missing = Object.entries(labels).filter(([label]) => metadata.labels?.[label] === undefined);
    await changeDataVolume(dataVolume, { annotations, labels: Object.fromEntries(missing) });
  }

  async function changeDataVolume(
    { namespace, name, uid }: DataVolumeRef,
    metadata: { annotations: object; labels?: object },
  ): Promise<void> {
    await callForOutcome(
      `annotating DataVolume ${namespace}/${name}`,
      kubernetes.custom.patchNamespacedCustomObject(
        { ...dataVolumePath(namespace), name, body: { metadata: { uid, ...metadata } } },
        MERGE_PATCH,
      ) as Promise<object>,
    );
  }

  return {
    async judgeTarget({ dataVolume: ref }) {
      const dataVolume = await readDataVolume(kubernetes, ref);
      return await judgeClaim(kubernetes, dataVolume, await readCdiConfig(kubernetes));
    },
    findCloneOrigin,
    planClone,
    annotateClone,
  };
}

/** A size that `spec.storage` leaves out is the disk's; of an archive's volume what the source got. The same object where it says one. */
function withSize(dataVolume: DataVolume, origin: CloneOrigin, content: SourceContent): DataVolume {
  const { spec } = dataVolume;
  if (!spec.storage || spec.storage.resources?.requests?.storage !== undefined) return dataVolume;
  const bytes = origin.contentType === 'archive' ? origin.capacityBytes : content.bytes;
  const { resources } = spec.storage;
  const storage = {
    ...spec.storage,
    resources: { ...resources, requests: { ...resources?.requests, storage: `${bytes}` } },
  };
  return { ...dataVolume, spec: { ...spec, storage } };
}
