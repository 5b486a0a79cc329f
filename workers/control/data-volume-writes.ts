/** What the watch itself writes about DataVolumes: progress, the end of a run that could not write it, and one event. */
import { createHash } from 'node:crypto';
import type { CoreV1Event, V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { callForOutcome, MERGE_PATCH, type Kubernetes } from '../../activities/kubernetes/client.js';
import { dataVolumePath, findDataVolume } from '../../activities/kubernetes/data-volumes.js';
import { ownerReference } from '../../activities/kubernetes/claim-body.js';
import { patchClaim, findClaimNamed } from '../../activities/kubernetes/claim-object.js';
import { CDI_GROUP, CDI_VERSION } from '../../activities/kubernetes/names.js';
import type { DataVolume, DataVolumeStatus } from '../../activities/kubernetes/objects.js';
import { statusOf } from '../../activities/kubernetes/status.js';
import type { DataVolumeEvent, DataVolumeRef } from '../../activities/types.js';
import { conditionsFor } from '../../workflows/conditions.js';
import { isToAdopt, newsOfClaim } from './finished-claims.js';
import { refOf } from './lifecycles.js';

/** Kubernetes' limit for an event's message, in characters. */
const MAX_MESSAGE = 1024;

/** Writes that depend on what was read before them. */
export interface DataVolumeWrites {
  /** The DataVolume now, whoever has that name. */
  find(ref: { namespace: string; name: string }): Promise<DataVolume | undefined>;
  /** Writes progress, or what is told beside it, onto exactly this version. `false` where it has changed since. */
  progress(
    dataVolume: DataVolume,
    status: Pick<DataVolumeStatus, 'progress' | 'restartCount' | 'conditions'>,
  ): Promise<boolean>;
  /** Phase `Failed` with condition and event onto exactly this version. @throws Error where it has changed since */
  fail(found: DataVolume, failure: { type: string; message: string }): Promise<void>;
  /**
   * Phase and conditions of a disk that is complete, when its claim has come to be Bound, has lost its volume, was deleted or restored;
   * one that was restored is adopted. Nothing where that is said, or not so.
   */
  tellClaim(found: DataVolume): Promise<void>;
  /** Says something once for each DataVolume and reason. */
  sayOnce(dataVolume: DataVolume, event: DataVolumeEvent): Promise<void>;
}

/** Writes with this identity. */
export function createDataVolumeWrites(kubernetes: Kubernetes): DataVolumeWrites {
  async function patchStatus({ metadata }: DataVolume, status: DataVolumeStatus): Promise<boolean> {
    const { namespace, name, uid, resourceVersion } = metadata;
    const outcome = await callForOutcome(
      `writing the status of DataVolume ${namespace}/${name}`,
      kubernetes.custom.patchNamespacedCustomObjectStatus(
        { ...dataVolumePath(namespace), name, body: { metadata: { uid, resourceVersion }, status } },
        MERGE_PATCH,
      ) as Promise<object>,
    );
    return typeof outcome !== 'string';
  }

  async function fail(found: DataVolume, failure: { type: string; message: string }): Promise<void> {
    const dataVolume = refOf(found);
    const conditions = conditionsFor('Failed', { claim: dataVolume.name, failure });
    const update = { dataVolume, phase: 'Failed', conditions } as const;
    if (!(await patchStatus(found, statusOf(found.status, update, new Date())))) {
      throw new Error(
        `DataVolume ${dataVolume.namespace}/${dataVolume.name} changed while it was being written`,
      );
    }
    await sayOnce(found, { type: 'Warning', reason: failure.type, message: failure.message });
  }

  async function tellClaim(found: DataVolume): Promise<void> {
    const { namespace, name } = found.metadata;
    const claim = await findClaimNamed(kubernetes, { namespace, name });
    if (isToAdopt(found, claim)) await adopt(refOf(found), claim);
    const news = newsOfClaim(found, claim);
    if (!news) return;
    // one that has changed since is looked at again
    await patchStatus(found, statusOf(found.status, { dataVolume: refOf(found), ...news }, new Date()));
  }

  /** @throws Error where the claim has changed since it was read */
  async function adopt(dataVolume: DataVolumeRef, { metadata }: V1PersistentVolumeClaim): Promise<void> {
    const owner = await findDataVolume(kubernetes, dataVolume);
    // the garbage collector takes a claim whose owner is gone
    if (owner?.metadata.uid !== dataVolume.uid || owner.metadata.deletionTimestamp) return;
    const { namespace, name } = dataVolume;
    const { uid = '', resourceVersion, ownerReferences = [] } = metadata ?? {};
    const outcome = await patchClaim(
      kubernetes,
      { namespace, name, uid },
      {
        metadata: { uid, resourceVersion, ownerReferences: [...ownerReferences, ownerReference(dataVolume)] },
      },
    );
    if (outcome === 'conflict') throw new Error(`claim ${namespace}/${name} changed while it was adopted`);
  }

  async function sayOnce(dataVolume: DataVolume, event: DataVolumeEvent): Promise<void> {
    const { namespace } = dataVolume.metadata;
    const doing = `recording event ${event.reason} on DataVolume ${namespace}/${dataVolume.metadata.name}`;
    const body = eventBody(refOf(dataVolume), event);
    // A name that exists means that it was said; a namespace that is gone needs no event.
    await callForOutcome(doing, kubernetes.core.createNamespacedEvent({ namespace, body }));
  }

  return { find: (ref) => findDataVolume(kubernetes, ref), progress: patchStatus, fail, tellClaim, sayOnce };
}

function eventBody(
  { namespace, name, uid }: DataVolumeRef,
  { type, reason, message }: DataVolumeEvent,
): CoreV1Event {
  const said = createHash('sha256')
    .update(JSON.stringify([uid, reason]))
    .digest('hex')
    .slice(0, 16);
  const at = new Date();
  return {
    // 253 characters at most, 17 of them for the hash.
    metadata: { name: `${name.slice(0, 236)}.${said}`, namespace },
    involvedObject: { apiVersion: `${CDI_GROUP}/${CDI_VERSION}`, kind: 'DataVolume', namespace, name, uid },
    type,
    reason,
    message: message.slice(0, MAX_MESSAGE),
    source: { component: 'dvflow' },
    reportingComponent: 'dvflow',
    reportingInstance: '',
    firstTimestamp: at,
    lastTimestamp: at,
    count: 1,
  };
}
