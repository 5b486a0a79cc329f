/** What terminated workflows left behind in Kubernetes (`design.md` §6): found by mark, judged afresh, removed by uid. */
import { Context } from '@temporalio/activity';
import type { V1ObjectMeta, V1PersistentVolume } from '@kubernetes/client-node';
import type { ControlActivities } from '../interfaces.js';
import { pageOf } from '../item-pages.js';
import type { DataVolumeRef, ItemPage, UnpublishedItem } from '../types.js';
import { isOffered } from './adoption.js';
import { callForOutcome, callIfFound, listAll, listVolumes } from './client.js';
import type { Kubernetes } from './client.js';
import { findClaim } from './claim-object.js';
import { findDataVolume } from './data-volumes.js';
import { isMadeOf, mayBeOfVolume } from './directory-volumes.js';
import { IDENTITY, MARKS } from './names.js';
import { deleteVolumeObject } from './volume-finalizer.js';
import { unmarkVolume } from './volumes.js';
import type { ExecutionObserver } from './executions.js';

/** Younger things may be in the making, in ms. */
const DEFAULT_GRACE_MS = 600_000;

/** Of these there is no object in Kubernetes. */
const ON_NODES: readonly UnpublishedItem['kind'][] = ['Directory', 'BlockVolume', 'TransferState'];

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

  async function listUnpublished(page: ItemPage = {}): Promise<readonly UnpublishedItem[]> {
    const labelSelector = MARKS.unpublished;
    const namespace = transferNamespace;
    const claims = await listAll('listing unpublished claims', (part) =>
      core.listPersistentVolumeClaimForAllNamespaces({ ...part, labelSelector }),
    );
    const volumes = await listAll('listing unpublished volumes', (part) =>
      core.listPersistentVolume({ ...part, labelSelector }),
    );
    const secrets = await listAll('listing copies of credentials', (part) =>
      core.listNamespacedSecret({ ...part, namespace, labelSelector }),
    );
    const items = [
      ...claims.map(({ metadata }) => itemOf('PersistentVolumeClaim', metadata)),
      ...volumes.map(({ metadata }) => itemOf('PersistentVolume', metadata)),
      ...secrets.map(({ metadata }) => itemOf('Secret', metadata)),
    ];
    return pageOf(items.filter(isOld), page);
  }

  async function judgeUnpublished({
    items,
  }: {
    items: readonly UnpublishedItem[];
  }): Promise<UnpublishedItem[]> {
    const volumes = await listVolumes(kubernetes);
    const judged: UnpublishedItem[] = [];
    const failures: unknown[] = [];
    for (const item of items) {
      try {
        if (await isPublished(item, volumes)) judged.push({ ...item, published: true });
        else if (await isRemovable(item, volumes)) judged.push(item);
      } catch (error) {
        failures.push(error);
        const { kind, where, name } = item;
        Context.current().log.warn('cannot be judged, and stays', { kind, where, name, error });
      }
    }
    // nobody answers: worth another try
    if (failures.length > 0 && failures.length === items.length) throw failures[0];
    return judged;
  }

  /** Younger things may be in the making; so may be those of which nobody knows when they were made. */
  function isOld({ createdAt }: UnpublishedItem): boolean {
    return Date.parse(createdAt) < Date.now() - grace;
  }

  /**
   * A user has the disk, and only the mark stayed: its node was silent, or its run was ended, when it was to go. It must go as long as
   * the PersistentVolume can be seen: once an administrator has deleted that to keep the data, nothing else tells the disk from a leak.
   */
  async function isPublished(item: UnpublishedItem, all: readonly V1PersistentVolume[]): Promise<boolean> {
    if (!isOld(item)) return false;
    const volume = usersVolumes(all).find((found) => isOf(found, item));
    if (volume?.metadata?.annotations?.hostPathProvisionerIdentity !== IDENTITY) return false;
    const bound = volume.status?.phase === 'Bound';
    // the volume has lost its mark, or will by the run that still works
    if (item.kind === 'Directory') return bound || volume.metadata.labels?.[MARKS.unpublished] === undefined;
    return bound && (await executions.stateOf(item.workflowId)) !== 'running';
  }

  /** Scratch space is nobody's disk. */
  function usersVolumes(all: readonly V1PersistentVolume[]): readonly V1PersistentVolume[] {
    return all.filter(({ spec }) => spec?.claimRef?.namespace !== transferNamespace);
  }

  /** All four conditions; a question that cannot be answered is an error, and then nothing is removed. */
  async function isRemovable(
    item: UnpublishedItem,
    volumes: readonly V1PersistentVolume[],
  ): Promise<boolean> {
    const { uid, name } = item.dataVolume;
    if (!uid || !name || !item.workflowId) return false;
    if (!isOld(item)) return false;
    if (!ON_NODES.includes(item.kind) && (await readMarked(item)) === undefined) return false;
    if (await isInUse(item, volumes)) return false;
    return await isAbandoned(item);
  }

  async function isAbandoned({ kind, workflowId, dataVolume }: UnpublishedItem): Promise<boolean> {
    switch (await executions.stateOf(workflowId)) {
      case 'running':
        return false;
      case 'closed':
        return true;
      case 'unknown': {
        // nothing was written into it, and no PersistentVolume names it
        if (kind === 'BlockVolume') return true;
        // a Temporal server that has forgotten says nothing about what is alive
        const found = await findDataVolume(kubernetes, dataVolume);
        if (found?.metadata.uid === dataVolume.uid) return false;
        // what was made for a plain claim carries the claim's own identity
        return (await findClaim(kubernetes, dataVolume)) === undefined;
      }
    }
  }

  /** A volume is bound or offered to a user's claim, so the disk behind it is complete. */
  async function isInUse(item: UnpublishedItem, all: readonly V1PersistentVolume[]): Promise<boolean> {
    const volumes = usersVolumes(all);
    switch (item.kind) {
      case 'Secret':
        return false;
      case 'PersistentVolumeClaim':
        return volumes.some(({ spec }) => spec?.claimRef?.uid === item.objectUid);
      case 'Directory':
        return await mayBeOfVolume(kubernetes, item, volumes);
      case 'BlockVolume':
        return all.some(({ metadata }) => metadata?.name === item.name);
      // what it says is needed to undo the transfer, as long as the volume is to be given back
      case 'TransferState':
        return all.some(
          ({ metadata }) =>
            metadata?.uid === item.objectUid && metadata?.labels?.[MARKS.unpublished] === item.dataVolume.uid,
        );
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
      case 'BlockVolume':
      case 'TransferState':
        return undefined;
    }
  }

  async function removeUnpublished({ item }: { item: UnpublishedItem }): Promise<void> {
    const marked = await readMarked(item);
    // a reserved volume is somebody's: it is given back, never removed
    if (!marked || marked.annotations?.[MARKS.reserved] !== undefined) return;
    const { uid = '', resourceVersion = '' } = marked;
    const { kind, name, where: namespace } = item;
    if (item.published) return await unmarkVolume(kubernetes, name, resourceVersion);
    // another run may have found it, and gone on with it, since it was judged
    const { workflowId } = itemOf(kind, marked);
    if (!(await isAbandoned({ ...item, workflowId }))) return;
    // published, or found by another run, between the look and the removal: the version differs, and it stays
    const preconditions = { uid, resourceVersion };
    const body = { preconditions };
    const doing = `removing ${kind} ${name}`;
    if (kind === 'PersistentVolumeClaim') {
      await callForOutcome(doing, core.deleteNamespacedPersistentVolumeClaim({ namespace, name, body }));
    } else if (kind === 'PersistentVolume') {
      await deleteVolumeObject(kubernetes, name, preconditions);
    } else {
      await callForOutcome(doing, core.deleteNamespacedSecret({ namespace, name, body }));
    }
  }

  return { listUnpublished, judgeUnpublished, removeUnpublished };
}

/** The item is this volume, or the directory that it is made of, beyond doubt. */
function isOf(volume: V1PersistentVolume, item: UnpublishedItem): boolean {
  if (item.kind === 'Directory') return isMadeOf(volume, item);
  return item.kind === 'PersistentVolume' && volume.metadata?.uid === item.objectUid;
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
