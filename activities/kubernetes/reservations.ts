/**
 * Reservation of static volumes (`design.md` §6): a `claimRef` to a claim in `dvflow-transfers` that nobody creates keeps the volume
 * from every other claim while it is filled; what the volume was before is in an annotation, and is restored when it is given back.
 */
import type { V1Node, V1ObjectReference, V1PersistentVolume } from '@kubernetes/client-node';
import { transientFailure } from '../failures.js';
import type { ControlActivities } from '../interfaces.js';
import type { NoVolume, ReservedVolume } from '../types/local-volumes.js';
import type { DataVolumeRef, TargetPlan } from '../types.js';
import { callIfFound, listAll, listVolumes } from './client.js';
import type { Kubernetes } from './client.js';
import { readDataVolume } from './data-volumes.js';
import { CDI_ANNOTATIONS, HOSTNAME_LABEL, MARKS, reservationName } from './names.js';
import { isKeptForLater } from './kept-volumes.js';
import { nodesOf } from './node-affinity.js';
import type { DataVolume } from './objects.js';
import { parseQuantity } from './quantity.js';
import {
  beforeOf,
  changedMeanwhile,
  isReservedFor,
  ownMarks,
  patchVolume,
  wasTakenOver,
  withoutMarks,
  type Before,
} from './reservation-marks.js';
import { wantedVolume } from './static-plan.js';
import { chooseVolumes, refuseForGood, type FittingVolume } from './volume-choice.js';

/** What the activities of reservation need. */
interface ReservationDependencies {
  readonly kubernetes: Kubernetes;
  /** Namespace of the claims that nobody creates. */
  readonly transferNamespace: string;
}

/** Activities that reserve static volumes and give them back. */
export function createReservationActivities({
  kubernetes,
  transferNamespace: namespace,
}: ReservationDependencies): Pick<ControlActivities, 'reserveVolume' | 'withdrawVolume' | 'releaseVolume'> {
  const { core } = kubernetes;
  const holder = ({ uid }: DataVolumeRef): V1ObjectReference => ({
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    namespace,
    name: reservationName(uid),
  });

  async function reserveVolume(input: {
    dataVolume: DataVolumeRef;
    target: TargetPlan;
  }): Promise<ReservedVolume | NoVolume> {
    const dataVolume = await readDataVolume(kubernetes, input.dataVolume);
    const wanted = wantedVolume(dataVolume, input.target);
    const [volumes, nodes] = await Promise.all([
      listVolumes(kubernetes),
      listAll('listing nodes', (page) => core.listNode(page)),
    ]);
    const marked = volumes.filter((volume) => isReservedFor(volume, input.dataVolume));
    const lost = marked.find((volume) => !isOurs(volume, input.dataVolume));
    // what it was before is restored, as at the end of a run, and this one looks anew
    if (lost) {
      await unmark(lost, input.dataVolume);
      throw changedMeanwhile(lost.metadata?.name ?? '');
    }
    const [own] = marked;
    if (own) {
      const [node] = nodesOf(own, nodes);
      if (!node) return { waitFor: withoutNode(own) };
      const at = await takeOver(own);
      return describe(own, node, input.dataVolume, { at, since: beforeOf(own).since });
    }
    const named = volumes.find(({ metadata }) => metadata?.name === wanted.volumeName);
    if (named) refuseForGood(named, wanted);
    const { fitting, why } = chooseVolumes(wanted, volumes, nodes);
    for (const { volume, node } of fitting) {
      const reserved = await reserve({ volume, node }, input.dataVolume);
      if (reserved) return describe(volume, node, input.dataVolume, reserved);
    }
    return {
      waitFor: fitting.length === 0 ? why : `${why}: all that fit have just changed`,
      ...((await hasKept(dataVolume, volumes)) ? { kept: true } : {}),
    };
  }

  /** One that is kept for the claim came after the plan was made. Where the claim is there already, the volume is not for that. */
  async function hasKept(dataVolume: DataVolume, volumes: readonly V1PersistentVolume[]): Promise<boolean> {
    if (!isKeptForLater(dataVolume, volumes)) return false;
    const { namespace: where, name } = dataVolume.metadata;
    const claim = await callIfFound(
      `reading claim ${where}/${name}`,
      core.readNamespacedPersistentVolumeClaim({ namespace: where, name }),
    );
    return claim === undefined;
  }

  /** One patch: whoever comes later finds another version. When it was, or `undefined` where somebody was faster. */
  async function reserve({ volume }: FittingVolume, dataVolume: DataVolumeRef): Promise<Held | undefined> {
    const { name = '', resourceVersion, labels = {}, annotations = {} } = volume.metadata ?? {};
    const { claimRef, persistentVolumeReclaimPolicy: reclaimPolicy = 'Retain' } = volume.spec ?? {};
    const own = ownMarks();
    const before: Before = {
      reclaimPolicy,
      since: own[MARKS.reservedAt],
      ...(claimRef?.name
        ? { claimRef: { namespace: claimRef.namespace, name: claimRef.name } as object }
        : {}),
    };
    const marks = {
      ...own,
      [MARKS.dataVolume]: `${dataVolume.namespace}/${dataVolume.name}`,
      [MARKS.reserved]: JSON.stringify(before),
    };
    const outcome = await patchVolume(kubernetes, name, `reserving volume ${name}`, [
      { op: 'test', path: '/metadata/resourceVersion', value: resourceVersion },
      { op: 'add', path: '/spec/claimRef', value: holder(dataVolume) },
      // should the claim vanish while it is handed over, nothing is deleted
      { op: 'add', path: '/spec/persistentVolumeReclaimPolicy', value: 'Retain' },
      { op: 'add', path: '/metadata/labels', value: { ...labels, [MARKS.unpublished]: dataVolume.uid } },
      { op: 'add', path: '/metadata/annotations', value: { ...annotations, ...marks } },
    ]);
    return outcome === 'patched' ? { at: own[MARKS.reservedAt], since: before.since } : undefined;
  }

  /** An earlier run's, which a sweeper may be emptying by now: it must not be released under this one, nor swept for that one's end. */
  async function takeOver({ metadata }: V1PersistentVolume): Promise<string> {
    const { name = '', resourceVersion, annotations = {} } = metadata ?? {};
    const marks = ownMarks(annotations[MARKS.reservedAt]);
    const outcome = await patchVolume(kubernetes, name, `taking volume ${name} over`, [
      { op: 'test', path: '/metadata/resourceVersion', value: resourceVersion },
      { op: 'add', path: '/metadata/annotations', value: { ...annotations, ...marks } },
    ]);
    if (outcome !== 'patched') throw changedMeanwhile(name);
    return marks[MARKS.reservedAt];
  }

  async function withdrawVolume({
    dataVolume,
    reservedAt,
  }: {
    dataVolume: DataVolumeRef;
    reservedAt?: string;
  }): Promise<{ volume?: ReservedVolume; waiting?: string }> {
    const labelSelector = `${MARKS.unpublished}=${dataVolume.uid}`;
    const marked = await listAll('listing unpublished volumes', (page) =>
      core.listPersistentVolume({ ...page, labelSelector }),
    );
    const volume = marked.find((found) => isReservedFor(found, dataVolume));
    if (!volume || wasTakenOver(volume, reservedAt)) return {};
    if (await isClaimed(volume, dataVolume)) return {};
    if (!isOurs(volume, dataVolume)) {
      await unmark(volume, dataVolume);
      return {};
    }
    await takeBack(volume, dataVolume);
    const nodes = await listAll('listing nodes', (page) => core.listNode(page));
    const [node] = nodesOf(volume, nodes);
    const held = { at: volume.metadata?.annotations?.[MARKS.reservedAt], since: beforeOf(volume).since };
    if (node) return { volume: describe(volume, node, dataVolume, held) };
    // it may never come back: nothing to be tried again for a day
    return {
      waiting: `PersistentVolume ${volume.metadata?.name} cannot be emptied: its node is not in the cluster`,
    };
  }

  /** Bound to the claim, the disk is complete and the user's; a claim that only waits would get the volume as soon as it is free. */
  async function isClaimed({ spec }: V1PersistentVolume, dataVolume: DataVolumeRef): Promise<boolean> {
    const { namespace: space, name, uid } = dataVolume;
    const doing = `reading claim ${space}/${name}`;
    const claim = await callIfFound(
      doing,
      core.readNamespacedPersistentVolumeClaim({ namespace: space, name }),
    );
    if (claim?.metadata?.annotations?.[CDI_ANNOTATIONS.createdFor] !== uid) return false;
    const bound = claim.status?.phase === 'Bound' && claim.metadata.uid === spec?.claimRef?.uid;
    if (bound && !claim.metadata.deletionTimestamp) return true;
    throw transientFailure('KubernetesUnavailable', `claim ${space}/${name} is still there`, {
      nextRetryDelayMs: 1000,
    });
  }

  /** The claim that it was handed over to is gone. */
  async function takeBack({ metadata, spec }: V1PersistentVolume, dataVolume: DataVolumeRef): Promise<void> {
    const { name = '', resourceVersion } = metadata ?? {};
    const reserved = holder(dataVolume);
    const { claimRef } = spec ?? {};
    if (claimRef?.name === reserved.name && claimRef?.namespace === namespace) return;
    const outcome = await patchVolume(kubernetes, name, `taking volume ${name} back`, [
      { op: 'test', path: '/metadata/resourceVersion', value: resourceVersion },
      { op: 'add', path: '/spec/claimRef', value: reserved },
    ]);
    if (outcome !== 'patched') throw changedMeanwhile(name);
  }

  /**
   * Held by us, or offered to the DataVolume's claim; an administrator may have given it to somebody else, who may have had it and lost it
   * again by now where it is nobody's.
   */
  function isOurs({ spec }: V1PersistentVolume, dataVolume: DataVolumeRef): boolean {
    const { claimRef } = spec ?? {};
    const offered = claimRef?.namespace === dataVolume.namespace && claimRef.name === dataVolume.name;
    const held = claimRef?.namespace === namespace && claimRef.name === holder(dataVolume).name;
    return offered || held;
  }

  async function releaseVolume({ volume: reserved }: { volume: ReservedVolume }): Promise<void> {
    const name = reserved.volume;
    const volume = await callIfFound(`reading volume ${name}`, core.readPersistentVolume({ name }));
    if (volume?.metadata?.uid !== reserved.volumeUid) return;
    if (!isReservedFor(volume, reserved.dataVolume)) return;
    if (wasTakenOver(volume, reserved.reservedAt)) return;
    if (await isClaimed(volume, reserved.dataVolume)) return;
    await unmark(volume, reserved.dataVolume);
  }

  /** Restores what the volume was before; a `claimRef` that is not ours stays. */
  async function unmark(volume: V1PersistentVolume, dataVolume: DataVolumeRef): Promise<void> {
    const { name = '', resourceVersion, labels = {}, annotations = {} } = volume.metadata ?? {};
    const { claimRef: kept, reclaimPolicy } = beforeOf(volume);
    const claimRef = kept
      ? [{ op: 'add', path: '/spec/claimRef', value: { ...holder(dataVolume), ...kept } }]
      : [{ op: 'remove', path: '/spec/claimRef' }];
    const outcome = await patchVolume(kubernetes, name, `releasing volume ${name}`, [
      { op: 'test', path: '/metadata/resourceVersion', value: resourceVersion },
      ...(volume.spec?.claimRef && isOurs(volume, dataVolume) ? claimRef : []),
      { op: 'add', path: '/spec/persistentVolumeReclaimPolicy', value: reclaimPolicy },
      { op: 'add', path: '/metadata/labels', value: withoutMarks(labels) },
      { op: 'add', path: '/metadata/annotations', value: withoutMarks(annotations) },
    ]);
    if (outcome === 'changed') throw changedMeanwhile(name);
  }

  return { reserveVolume, withdrawVolume, releaseVolume };
}

function withoutNode({ metadata }: V1PersistentVolume): string {
  return (
    `PersistentVolume ${metadata?.name} is reserved and may be half-filled, and its node is not in the cluster: ` +
    'bring the node back, or delete the PersistentVolume to get another one'
  );
}

/** When a volume was reserved or taken over, and since when it has been held without a gap. */
interface Held {
  readonly at: string | undefined;
  readonly since: string | undefined;
}

function describe(
  { metadata, spec }: V1PersistentVolume,
  node: V1Node,
  dataVolume: DataVolumeRef,
  { at, since }: Held,
): ReservedVolume {
  return {
    node: node.metadata?.name ?? '',
    hostname: node.metadata?.labels?.[HOSTNAME_LABEL] ?? '',
    dataVolume,
    volume: metadata?.name ?? '',
    volumeUid: metadata?.uid ?? '',
    storageClass: spec?.storageClassName ?? '',
    volumeMode: spec?.volumeMode === 'Block' ? 'Block' : 'Filesystem',
    path: spec?.local?.path ?? '',
    capacityBytes: Number(parseQuantity(spec?.capacity?.storage ?? '0') ?? 0n),
    ...(at ? { reservedAt: at } : {}),
    ...(since ? { tenure: since } : {}),
  };
}
