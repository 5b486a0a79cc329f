import type { Client } from '@temporalio/client';
import type { KubeConfig, V1PersistentVolume } from '@kubernetes/client-node';
import { WorkflowIdConflictPolicy, WorkflowIdReusePolicy, type Logger } from '@temporalio/common';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import { MARKS, reservationName } from '../../activities/kubernetes/names.js';
import { isReclaimable } from '../../activities/kubernetes/reclaim.js';
import { finalizerStep, keepFinalizer } from '../../activities/kubernetes/volume-finalizer.js';
import { CONTROL_QUEUE, reclaimWorkflowId } from '../../workflows/task-queues.js';
import type { CapacityPublisher } from './capacity.js';
import type { DataVolumeWatch } from './data-volumes.js';
import { createKeyQueue } from './key-queue.js';
import { startListWatch, type ListWatch, type WatchedObject } from './list-watch.js';
import type { Provisioner } from './provisioner.js';
import { failedLately, type Runs } from './runs.js';

/** A volume as raw JSON. */
type Volume = V1PersistentVolume & WatchedObject;

/** Reasons of condition `Running` of those who wait for what a volume that goes gives back. */
const WAITING_FOR_ROOM: ReadonlySet<string | undefined> = new Set([
  'InsufficientCapacity',
  'ErrExceededQuota',
]);

/** Reason of those who wait for a volume that somebody makes or gives back. */
const WAITING_FOR_VOLUME: ReadonlySet<string | undefined> = new Set(['FailedBinding']);

/** A volume that a claim could get: nobody's, or kept by an administrator for one claim, but not reserved by dvflow. */
export function isFree(volume: Pick<V1PersistentVolume, 'spec' | 'status'> | undefined): boolean {
  const { claimRef } = volume?.spec ?? {};
  const taken = claimRef?.uid !== undefined || claimRef?.name?.startsWith(reservationName(''));
  return volume?.status?.phase === 'Available' && !taken;
}

/**
 * The DataVolume (`<namespace>/<name>`) whose volume was taken away while it was filled: deleted, made anew under its name, released, or
 * given to somebody else. Nobody who hands it over is meant.
 */
export function loserOf({ before, after }: { before?: Volume; after?: Volume }): string | undefined {
  const { labels, annotations, uid } = before?.metadata ?? {};
  const dataVolume = annotations?.[MARKS.dataVolume];
  if (labels?.[MARKS.unpublished] === undefined || dataVolume === undefined) return undefined;
  if (after?.metadata.uid !== uid) return dataVolume;
  const [was, is] = [before?.spec?.claimRef, after?.spec?.claimRef];
  if (was?.name === is?.name && was?.namespace === is?.namespace) return undefined;
  return `${is?.namespace}/${is?.name}` === dataVolume ? undefined : dataVolume;
}

/**
 * Reclaims volumes of ours whose claim is gone, wakes those who wait for room when one has gone, and whoever fills one that was taken
 * away. Volumes of earlier releases, and those whose policy changes, get the finalizer that reclaiming takes off, or lose it.
 */
export function watchVolumes(options: {
  readonly kubeConfig: KubeConfig;
  readonly kubernetes: Kubernetes;
  readonly client: Client;
  readonly runs: Pick<Runs, 'describe' | 'wake'>;
  readonly dataVolumes: Pick<DataVolumeWatch, 'served' | 'wake' | 'get'>;
  readonly provisioner: Pick<Provisioner, 'wakeWaiting'>;
  readonly capacity: Pick<CapacityPublisher, 'changed'>;
  readonly logger: Logger;
  readonly relistMs?: number | undefined;
  /** Told of the class of every volume that appeared, changed or went. */
  classChanged(storageClass: string): void;
}): Pick<ListWatch<Volume>, 'all' | 'synced' | 'stop'> {
  const { client, runs, dataVolumes, logger } = options;
  const queue = createKeyQueue(settle, logger);
  const list: ListWatch<Volume> = startListWatch<Volume>({
    ...options,
    path: '/api/v1/persistentvolumes',
    changed(key, change) {
      const { before, after } = change;
      const loser = loserOf(change);
      if (loser !== undefined && dataVolumes.get(loser)) dataVolumes.wake(loser, true);
      options.classChanged((after ?? before)?.spec?.storageClassName ?? '');
      if (before?.metadata.uid !== after?.metadata.uid) options.capacity.changed();
      if (!after) return wakeWaiting(WAITING_FOR_ROOM);
      if (isReclaimable(after) || finalizerStep(after)) queue.add(key);
      if (isFree(after) && !isFree(before)) wakeWaiting(WAITING_FOR_VOLUME);
    },
  });

  async function settle(key: string): Promise<void> {
    const volume = list.get(key);
    if (!volume) return;
    await keepFinalizer(options.kubernetes, volume);
    if (isReclaimable(volume)) await reclaim(volume);
  }

  /** A run that found nothing to do (the policy was Retain) may be followed by another one; one that runs is enough. */
  async function reclaim({ metadata: { name, uid, deletionTimestamp } }: Volume): Promise<void> {
    const latest = await runs.describe(reclaimWorkflowId(uid));
    if (latest && failedLately(latest, Date.now())) return;
    await client.workflow.start('reclaimVolume', {
      workflowId: reclaimWorkflowId(uid),
      taskQueue: CONTROL_QUEUE,
      args: [{ name, uid }],
      workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE,
      workflowIdConflictPolicy: WorkflowIdConflictPolicy.USE_EXISTING,
      staticSummary: `Reclaim volume ${name}`,
    });
    // somebody may wait for the end of the object: a run that rests looks again
    if (deletionTimestamp) await runs.wake(reclaimWorkflowId(uid));
  }

  function wakeWaiting(reasons: ReadonlySet<string | undefined>): void {
    if (reasons === WAITING_FOR_ROOM) options.provisioner.wakeWaiting();
    for (const { dataVolume } of dataVolumes.served()) {
      const { metadata, status } = dataVolume;
      const waits = status?.conditions?.some(({ type, reason }) => type === 'Running' && reasons.has(reason));
      if (waits) dataVolumes.wake(`${metadata.namespace}/${metadata.name}`);
    }
  }

  return {
    all: () => list.all(),
    synced: () => list.synced(),
    async stop() {
      await list.stop();
      await queue.stop();
    },
  };
}
