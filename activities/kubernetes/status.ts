/** The one writer of a DataVolume's phase and conditions. */
import { permanentFailure, transientFailure } from '../failures.js';
import type { ControlActivities } from '../interfaces.js';
import type { DataVolumeEvent, StatusUpdate } from '../types.js';
import { changeClaimIfThere } from './claim-object.js';
import { callForOutcome, MERGE_PATCH } from './client.js';
import type { Kubernetes } from './client.js';
import { isServedBy, isTerminal } from './data-volume-facts.js';
import { currentWorkflow, dataVolumePath, findDataVolume } from './data-volumes.js';
import { recordEvent } from './events.js';
import { CDI_ANNOTATIONS, CDI_GROUP, CDI_VERSION } from './names.js';
import type { DataVolume, DataVolumeCondition, DataVolumeStatus } from './objects.js';

/** Reads and writes before a busy object is left to the activity's next attempt; progress is written once a second beside us. */
const WRITE_ATTEMPTS = 5;

/** Activities that tell Kubernetes how a lifecycle goes. */
export function createStatusActivities({
  kubernetes,
}: {
  kubernetes: Kubernetes;
}): Pick<ControlActivities, 'recordStatus'> {
  async function recordStatus(update: StatusUpdate): Promise<{ readonly exists: boolean }> {
    const { dataVolume } = update;
    for (let attempt = 1; attempt <= WRITE_ATTEMPTS; attempt++) {
      const found = await findDataVolume(kubernetes, dataVolume);
      if (found?.metadata.uid !== dataVolume.uid) return { exists: false };
      // a workflow that was refused has nothing to say about what another one does
      if (!isServedBy(found, currentWorkflow())) return { exists: true };
      refuseAfterFailure(found, update);
      if (isOver(found, update)) return { exists: true };
      const outcome = await writeStatus(found, statusOf(found.status, afterAll(found, update), new Date()));
      if (outcome === 'gone') return { exists: false };
      if (outcome === 'conflict') continue;
      await sayPodPhase(update);
      for (const event of eventsOf(update)) await recordEvent(kubernetes, referenceTo(found), event);
      return { exists: true };
    }
    throw transientFailure(
      'KubernetesUnavailable',
      `status of DataVolume ${dataVolume.namespace}/${dataVolume.name} changed ${WRITE_ATTEMPTS} times while it was being written`,
    );
  }

  /** With the version that was read, so that an attempt that was given up cannot write over a later one. */
  async function writeStatus(
    { metadata, status: old }: DataVolume,
    status: DataVolumeStatus,
  ): Promise<'written' | 'conflict' | 'gone'> {
    if (JSON.stringify(old) === JSON.stringify(status)) return 'written';
    const { namespace, name, uid, resourceVersion } = metadata;
    const outcome = await callForOutcome(
      `writing the status of DataVolume ${namespace}/${name}`,
      kubernetes.custom.patchNamespacedCustomObjectStatus(
        { ...dataVolumePath(namespace), name, body: { metadata: { uid, resourceVersion }, status } },
        MERGE_PATCH,
      ) as Promise<object>,
    );
    return typeof outcome === 'string' ? outcome : 'written';
  }

  /** Clients of CDI read the transfer's state from the claim (`cdi.md` §6.2). */
  async function sayPodPhase({ dataVolume, podPhase, podReady, restartCount }: StatusUpdate): Promise<void> {
    if (podPhase === undefined && podReady === undefined && restartCount === undefined) return;
    const { namespace, name, uid } = dataVolume;
    const doing = `annotating claim ${namespace}/${name}`;
    const claim = await callForOutcome(
      doing,
      kubernetes.core.readNamespacedPersistentVolumeClaim({ namespace, name }),
    );
    if (typeof claim === 'string' || claim.metadata?.annotations?.[CDI_ANNOTATIONS.createdFor] !== uid)
      return;
    const annotations = {
      ...(podPhase === undefined ? {} : { [CDI_ANNOTATIONS.podPhase]: podPhase }),
      ...(podReady === undefined ? {} : { [CDI_ANNOTATIONS.podReady]: String(podReady) }),
      ...(restartCount === undefined ? {} : { [CDI_ANNOTATIONS.podRestarts]: String(restartCount) }),
    };
    const ref = { namespace, name, uid: claim.metadata.uid ?? '' };
    await changeClaimIfThere(kubernetes, ref, { metadata: { uid: ref.uid, annotations } });
  }

  return { recordStatus };
}

/** virtctl waits for its whole time, and then says only that it is over, where it does not find a reason that it knows. */
function eventsOf({ event, claimNotValid }: StatusUpdate): readonly DataVolumeEvent[] {
  if (!event) return [];
  return claimNotValid ? [event, { ...event, reason: 'ErrClaimNotValid' }] : [event];
}

/** The status after an update. Transition times move with a condition's status only, heartbeat times with anything it says. */
export function statusOf(
  old: DataVolumeStatus | undefined,
  update: StatusUpdate,
  at: Date,
): DataVolumeStatus {
  const { phase, claimName, progress, restartCount, conditions } = update;
  const told = phase === 'Succeeded' ? '100.0%' : progress;
  return {
    ...old,
    ...(phase === undefined ? {} : { phase }),
    ...(claimName === undefined ? {} : { claimName }),
    ...(told === undefined ? {} : { progress: told }),
    ...(restartCount === undefined ? {} : { restartCount }),
    ...(conditions ? { conditions: mergeConditions(old?.conditions ?? [], conditions, at) } : {}),
  };
}

/** Conditions after an update. Those of other types stay; the times of one move as {@link statusOf} says. */
export function mergeConditions(
  old: readonly DataVolumeCondition[],
  told: readonly Omit<DataVolumeCondition, 'lastTransitionTime' | 'lastHeartbeatTime'>[],
  at: Date,
): DataVolumeCondition[] {
  const merged = new Map(old.map((condition) => [condition.type, condition]));
  const now = `${at.toISOString().slice(0, 19)}Z`;
  for (const { type, status, reason, message } of told) {
    const before = merged.get(type);
    const transition = before?.status === status ? before.lastTransitionTime : now;
    const same = before?.status === status && before.reason === reason && before.message === message;
    const heartbeat = same ? before.lastHeartbeatTime : now;
    merged.set(type, {
      type,
      status,
      ...(reason === undefined ? {} : { reason }),
      ...(message === undefined ? {} : { message }),
      lastTransitionTime: transition,
      lastHeartbeatTime: heartbeat,
    });
  }
  return [...merged.values()];
}

/**
 * A run that was reset in Temporal's UI goes on after its failure, and would fill a volume for a DataVolume that stays `Failed`. A retry
 * has reset the phase before it says any.
 * @throws {@link FailureType} `ResourceExists` for any phase but the last one
 */
function refuseAfterFailure(
  { metadata: { namespace, name }, status }: DataVolume,
  { phase }: StatusUpdate,
): void {
  if (status?.phase !== 'Failed' || phase === undefined || phase === 'Failed') return;
  throw permanentFailure(
    'ResourceExists',
    `DataVolume ${namespace}/${name} is Failed: to run it once more, use dvflow retry ${name} -n ${namespace}`,
  );
}

/** What a DataVolume has failed of stays; what a run fails of that was refused for it is told by its event. */
function afterAll({ status }: DataVolume, update: StatusUpdate): StatusUpdate {
  return status?.phase === 'Failed' && update.phase === 'Failed' ? { dataVolume: update.dataVolume } : update;
}

/**
 * The lifecycle has ended otherwise than this update says. A repetition of the last word is let through for its event, and so
 * is a bare event: what happens after the end (clean-up that is left to the sweeper) must be told too.
 */
function isOver({ status }: DataVolume, { dataVolume: _, event: __, ...figures }: StatusUpdate): boolean {
  return (
    isTerminal(status?.phase) &&
    status?.phase !== figures.phase &&
    Object.values(figures).some((value) => value !== undefined)
  );
}

function referenceTo({ metadata }: DataVolume): {
  apiVersion: string;
  kind: string;
  namespace: string;
  name: string;
  uid: string;
} {
  const { namespace, name, uid } = metadata;
  return { apiVersion: `${CDI_GROUP}/${CDI_VERSION}`, kind: 'DataVolume', namespace, name, uid };
}
