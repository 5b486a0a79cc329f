/** The claim that a DataVolume is cloned from: whether it is there, complete, at rest, and on which node its volume is. */
import type { V1PersistentVolume, V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { permanentFailure } from '../../failures.js';
import type { CloneControlActivities, CloneOrigin, OriginAwaited, SourceVolume } from '../../types/clone.js';
import type { CloneSource, CloneSourceActivities } from '../../types/clone-sources.js';
import { controllerOf, findClaimNamed } from '../claim-object.js';
import { callIfFound, listAll } from '../client.js';
import type { Kubernetes } from '../client.js';
import { findDataVolume } from '../data-volumes.js';
import { CDI_ANNOTATIONS, MARKS } from '../names.js';
import { nodesOf } from '../node-affinity.js';
import { awaitsData } from '../plain-claims.js';
import { parseQuantity } from '../quantity.js';
import { once, podsOf, writersOf, type ListPods } from './users.js';

/** How labels begin that say what a machine of a disk is like; of KubeVirt's others some say whose the claim is. */
const DESCRIBING = 'instancetype.kubevirt.io/default-';

/** What looking at a source needs. */
export interface OriginDependencies {
  readonly kubernetes: Kubernetes;
  readonly resolve: CloneSourceActivities['resolveCloneSource'];
  /** Lists the pods that may use a source. @default asks Kubernetes each time */
  readonly listPods?: ListPods;
}

/** For one look at the sources of many clones: a namespace's pods are listed once, however many of its claims are cloned. */
export function lookAround(dependencies: OriginDependencies): ReturnType<typeof createOriginFinder> {
  return createOriginFinder({ ...dependencies, listPods: once(podsOf(dependencies.kubernetes)) });
}

/** Looks at the source of a clone; see `findCloneOrigin`. */
export function createOriginFinder({
  kubernetes,
  resolve,
  listPods = podsOf(kubernetes),
}: OriginDependencies): CloneControlActivities['findCloneOrigin'] {
  const { core } = kubernetes;

  async function findCloneOrigin({
    dataVolume,
    found,
  }: Parameters<CloneControlActivities['findCloneOrigin']>[0]): Promise<CloneOrigin | OriginAwaited> {
    const resolved = found ? { source: { kind: 'pvc', ...found } as const } : await resolve({ dataVolume });
    if (resolved.waiting) return { waiting: resolved.waiting };
    const { source, through } = resolved;
    if (source.kind === 'snapshot') throw snapshotSource(source);
    const { namespace, name } = source;
    if (namespace === dataVolume.namespace && name === dataVolume.name) return ofItself(source, through);
    const claim = await findClaimNamed({ core }, { namespace, name });
    const waiting = await whyNot(claim, source);
    if (waiting || !claim) return { waiting: waiting ?? missing(source) };
    const volume = await volumeOf(claim);
    if ('reason' in volume) return { waiting: volume };
    return { ...factsOf(claim, volume), ...(through ? { through } : {}) };
  }

  type Waiting = OriginAwaited['waiting'];

  async function whyNot(
    claim: V1PersistentVolumeClaim | undefined,
    source: CloneSource,
  ): Promise<Waiting | undefined> {
    if (!claim || claim.metadata?.deletionTimestamp) return missing(source);
    const unready = await whyUnready(claim);
    if (unready !== undefined) return { reason: 'ImportPVCNotReady', message: unready, counts: false };
    const [writer] = await writersOf(listPods, source);
    if (writer === undefined) return undefined;
    // CDI's words
    const message = `pod ${writer} using PersistentVolumeClaim ${source.name}`;
    return { reason: 'CloneSourceInUse', message, counts: true };
  }

  /** Whatever fills it has not said that it is done (CDI's `IsPopulated`). */
  async function whyUnready({
    metadata,
    status,
    ...claim
  }: V1PersistentVolumeClaim): Promise<string | undefined> {
    const { namespace = '', name = '', labels, annotations = {} } = metadata ?? {};
    const what = `The source PVC ${namespace}/${name}`;
    if (status?.phase !== 'Bound') return `${what} is ${status?.phase ?? 'Pending'}, not Bound`;
    const owner = controllerOf({ metadata, ...claim } as V1PersistentVolumeClaim);
    const made = annotations[CDI_ANNOTATIONS.createdFor] !== undefined || owner?.kind === 'DataVolume';
    const filled = `${what} is not fully imported`;
    if (labels?.[MARKS.unpublished] !== undefined) return filled;
    if (made) {
      const found = await findDataVolume(kubernetes, { namespace, name: owner?.name ?? name });
      const phase = found?.status?.phase || 'Pending';
      const owns = found?.metadata.uid === (owner?.uid ?? annotations[CDI_ANNOTATIONS.createdFor]);
      if (found && owns && phase !== 'Succeeded')
        return `${filled}: DataVolume ${namespace}/${found.metadata.name} is ${phase}`;
    }
    return awaitsData({ metadata: metadata ?? {} }) ? filled : undefined;
  }

  async function volumeOf(claim: V1PersistentVolumeClaim): Promise<SourceVolume | Waiting> {
    const name = claim.spec?.volumeName ?? '';
    const volume = await callIfFound(`reading volume ${name}`, core.readPersistentVolume({ name }));
    if (volume?.spec?.claimRef?.uid !== claim.metadata?.uid || !volume)
      return {
        reason: 'ImportPVCNotReady',
        message: `PersistentVolume ${name} of the source PVC ${claim.metadata?.namespace}/${claim.metadata?.name} is not there`,
        counts: false,
      };
    const path = volume.spec?.hostPath?.path ?? volume.spec?.local?.path;
    if (!path) throw elsewhere(volume, 'it is neither a hostPath nor a local volume');
    const nodes = nodesOf(volume, await listAll('listing nodes', (page) => core.listNode(page)));
    const [node] = nodes;
    if (nodes.length > 1) throw elsewhere(volume, `it does not say which of ${nodes.length} nodes it is on`);
    if (!node)
      return {
        reason: 'NodeUnavailable',
        message: `the node of PersistentVolume ${name} is not in the cluster`,
        counts: true,
      };
    return {
      node: node.metadata?.name ?? '',
      volume: name,
      volumeUid: volume.metadata?.uid ?? '',
      volumeMode: volume.spec?.volumeMode === 'Block' ? 'Block' : 'Filesystem',
      path,
    };
  }

  return findCloneOrigin;
}

function factsOf({ metadata, spec, status }: V1PersistentVolumeClaim, volume: SourceVolume): CloneOrigin {
  const { namespace = '', name = '', uid = '', annotations = {} } = metadata ?? {};
  const labels = Object.entries(metadata?.labels ?? {}).filter(([label]) => label.startsWith(DESCRIBING));
  const bytes = (text: string | undefined): number => Number(parseQuantity(text ?? '0') ?? 0n);
  return {
    claim: { namespace, name, uid },
    volume,
    contentType: annotations[CDI_ANNOTATIONS.contentType] === 'archive' ? 'archive' : 'kubevirt',
    requestBytes: bytes(spec?.resources?.requests?.storage),
    capacityBytes: bytes(status?.capacity?.storage),
    ...(labels.length > 0 ? { labels: Object.fromEntries(labels) } : {}),
  };
}

/** CDI's words. */
function missing({ namespace, name }: CloneSource): OriginAwaited['waiting'] {
  const message = `The source PersistentVolumeClaim ${namespace}/${name} doesn't exist`;
  return { reason: 'CloneWithoutSource', message, counts: false };
}

/** Nobody else may make that claim; a DataSource may come to name another one. @throws {@link FailureType} `InvalidDataVolume` without one */
function ofItself({ namespace, name }: CloneSource, through: CloneOrigin['through']): OriginAwaited {
  const own = `PersistentVolumeClaim ${namespace}/${name} is the one that this DataVolume is to make`;
  if (!through?.length)
    throw permanentFailure('InvalidDataVolume', `a claim cannot be cloned from itself: ${own}`);
  const message = `DataSource ${through.at(-1)} names no other source: ${own}`;
  return { waiting: { reason: 'CloneWithoutSource', message, counts: false } };
}

function snapshotSource({ namespace, name }: CloneSource): Error {
  return permanentFailure(
    'UnsupportedSource',
    `VolumeSnapshot ${namespace}/${name} cannot be cloned by this release, which serves no class that has snapshots: clone a claim (spec.source.pvc)`,
  );
}

function elsewhere({ metadata, spec }: V1PersistentVolume, why: string): Error {
  const driver = spec?.csi?.driver === undefined ? '' : ` (CSI driver ${spec.csi.driver})`;
  return permanentFailure(
    'UnsupportedSource',
    `PersistentVolume ${metadata?.name}${driver} cannot be cloned by this release: ${why}`,
  );
}
