/** What terminated workflows left behind in Kubernetes (`design.md` §6): found by mark, judged afresh, removed by uid. */
import type { V1ObjectMeta, V1PersistentVolume } from '@kubernetes/client-node';
import type { ControlActivities } from '../interfaces.js';
import type { DataVolumeRef, UnpublishedItem } from '../types.js';
import { isOffered } from './adoption.js';
import { callForOutcome, callIfFound, listAll } from './client.js';
import type { Kubernetes } from './client.js';
import { findClaim } from './claims.js';
import { findDataVolume } from './data-volumes.js';
import { MARKS } from './names.js';
import type { ExecutionObserver } from './executions.js';

/** Younger things may be in the making, in ms. */
const DEFAULT_GRACE_MS = 600_000;

/** What the activities of the sweeper need. */
export interface SweepDependencies {
  readonly kubernetes: Kubernetes;
  readonly executions: ExecutionObserver;
  readonly transferNamespace: string;
  /** Age below which nothing is removed, in ms. @default 600_000 */
  readonly graceMs?: number;
}

/** Activities of the sweeper. */
export function createSweepActivities({
  kubernetes,
  executions,
  transferNamespace,
  graceMs,
}: SweepDependencies): Pick<ControlActivities, 'listUnpublished' | 'judgeUnpublished' | 'removeUnpublished'> {
  const { core } = kubernetes;
  const grace = graceMs ?? DEFAULT_GRACE_MS;

  async function listUnpublished(): Promise<readonly UnpublishedItem[]> {
    const labelSelector = MARKS.unpublished;
    const namespace = transferNamespace;
    const claims = await listAll('listing unpublished claims', (page) =>
      core.listPersistentVolumeClaimForAllNamespaces({ ...page, labelSelector }),
    );
    const volumes = await listAll('listing unpublished volumes', (page) =>
      core.listPersistentVolume({ ...page, labelSelector }),
    );
    const secrets = await listAll('listing copies of credentials', (page) =>
      core.listNamespacedSecret({ ...page, namespace, labelSelector }),
    );
    return [
      ...claims.map(({ metadata }) => itemOf('PersistentVolumeClaim', metadata)),
      ...volumes.map(({ metadata }) => itemOf('PersistentVolume', metadata)),
      ...secrets.map(({ metadata }) => itemOf('Secret', metadata)),
    ];
  }

  async function judgeUnpublished({
    items,
  }: {
    items: readonly UnpublishedItem[];
  }): Promise<UnpublishedItem[]> {
    const volumes = await listAll('listing volumes', (page) => core.listPersistentVolume(page));
    const removable: UnpublishedItem[] = [];
    for (const item of items) {
      if (await isRemovable(item, volumes)) removable.push(item);
    }
    return removable;
  }

  /** All four conditions; a question that cannot be answered is an error, and then nothing is removed. */
  async function isRemovable(
    item: UnpublishedItem,
    volumes: readonly V1PersistentVolume[],
  ): Promise<boolean> {
    const { uid, name } = item.dataVolume;
    if (!uid || !name || !item.workflowId) return false;
    if (!(Date.parse(item.createdAt) < Date.now() - grace)) return false;
    if (item.kind !== 'Directory' && (await readMarked(item)) === undefined) return false;
    if (await isInUse(item, volumes)) return false;
    return await isAbandoned(item);
  }

  async function isAbandoned({ workflowId, dataVolume }: UnpublishedItem): Promise<boolean> {
    switch (await executions.stateOf(workflowId)) {
      case 'running':
        return false;
      case 'closed':
        return true;
      case 'unknown': {
        // a Temporal server that has forgotten says nothing about what is alive
        const found = await findDataVolume(kubernetes, dataVolume);
        if (found?.metadata.uid === dataVolume.uid) return false;
        // what was made for a plain claim carries the claim's own identity
        return (await findClaim(kubernetes, dataVolume)) === undefined;
      }
    }
  }

  /** A volume is bound or offered to a user's claim, so the disk behind it is complete. Scratch space is nobody's disk. */
  async function isInUse(item: UnpublishedItem, all: readonly V1PersistentVolume[]): Promise<boolean> {
    const volumes = all.filter(({ spec }) => spec?.claimRef?.namespace !== transferNamespace);
    switch (item.kind) {
      case 'Secret':
        return false;
      case 'PersistentVolumeClaim':
        return volumes.some(({ spec }) => spec?.claimRef?.uid === item.objectUid);
      case 'Directory':
        return volumes.some(({ spec }) => spec?.hostPath?.path === `${item.pool}/${item.name}`);
      case 'PersistentVolume': {
        const volume = volumes.find(({ metadata }) => metadata?.uid === item.objectUid);
        const { namespace = '', name = '', uid } = volume?.spec?.claimRef ?? {};
        if (!name) return false;
        const doing = `reading claim ${namespace}/${name}`;
        const claim = await callIfFound(doing, core.readNamespacedPersistentVolumeClaim({ namespace, name }));
        return volume?.status?.phase === 'Bound' || (claim !== undefined && claim.metadata?.uid === uid);
      }
    }
  }

  /** The object's metadata, while it is the same object, still carries the mark and was not offered to anybody. */
  async function readMarked({
    kind,
    where,
    name,
    objectUid,
  }: UnpublishedItem): Promise<V1ObjectMeta | undefined> {
    const found = await readObject(kind, where, name);
    if (!found || found.metadata?.uid !== objectUid) return undefined;
    if (found.metadata?.labels?.[MARKS.unpublished] === undefined) return undefined;
    return found.metadata;
  }

  async function readObject(
    kind: UnpublishedItem['kind'],
    namespace: string,
    name: string,
  ): Promise<{ metadata?: V1ObjectMeta } | undefined> {
    const doing = `reading ${kind} ${name}`;
    switch (kind) {
      case 'PersistentVolumeClaim': {
        const claim = await callIfFound(doing, core.readNamespacedPersistentVolumeClaim({ namespace, name }));
        return claim && (namespace === transferNamespace || !isOffered(claim)) ? claim : undefined;
      }
      case 'PersistentVolume':
        return await callIfFound(doing, core.readPersistentVolume({ name }));
      case 'Secret':
        return await callIfFound(doing, core.readNamespacedSecret({ namespace, name }));
      case 'Directory':
        return undefined;
    }
  }

  async function removeUnpublished({ item }: { item: UnpublishedItem }): Promise<void> {
    const marked = await readMarked(item);
    // a reserved volume is somebody's: it is given back, never removed
    if (!marked || marked.annotations?.[MARKS.reserved] !== undefined) return;
    const { uid = '', resourceVersion = '' } = marked;
    const { kind, name, where: namespace } = item;
    // published between the look and the removal: the version differs, and it stays
    const body = { preconditions: { uid, resourceVersion } };
    const doing = `removing ${kind} ${name}`;
    if (kind === 'PersistentVolumeClaim') {
      await callForOutcome(doing, core.deleteNamespacedPersistentVolumeClaim({ namespace, name, body }));
    } else if (kind === 'PersistentVolume') {
      await callForOutcome(doing, core.deletePersistentVolume({ name, body }));
    } else {
      await callForOutcome(doing, core.deleteNamespacedSecret({ namespace, name, body }));
    }
  }

  return { listUnpublished, judgeUnpublished, removeUnpublished };
}

function itemOf(kind: UnpublishedItem['kind'], metadata: V1ObjectMeta | undefined): UnpublishedItem {
  const {
    annotations = {},
    labels = {},
    namespace = '',
    name = '',
    uid = '',
    creationTimestamp,
  } = metadata ?? {};
  return {
    kind,
    where: namespace,
    name,
    objectUid: uid,
    dataVolume: dataVolumeOf(annotations[MARKS.dataVolume] ?? '', labels[MARKS.unpublished] ?? ''),
    workflowId: annotations[MARKS.workflowId] ?? '',
    createdAt: annotations[MARKS.reservedAt] ?? creationTimestamp?.toISOString() ?? '',
    ...(annotations[MARKS.reserved] === undefined ? {} : { reserved: true }),
  };
}

function dataVolumeOf(path: string, uid: string): DataVolumeRef {
  const [namespace = '', name = ''] = path.split('/');
  return { namespace, name, uid };
}
