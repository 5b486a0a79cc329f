/** Volumes whose claim is gone: which of them dvflow may empty, and the end of their objects. */
import type { V1PersistentVolume } from '@kubernetes/client-node';
import type { ControlActivities } from '../interfaces.js';
import type { PoolRef, ReleasedVolume } from '../types.js';
import { callIfFound, listAll } from './client.js';
import type { Kubernetes } from './client.js';
import { recordEvent } from './events.js';
import { HOSTNAME_LABEL } from './names.js';
import { hostnameOf } from './foreign-volumes.js';
import { listPools } from './pools.js';
import { deleteVolumeObject, isToBeEmptied, letGo } from './volume-finalizer.js';

/** Activities of reclaiming. */
export function createReclaimActivities({
  kubernetes,
}: {
  kubernetes: Kubernetes;
}): Pick<ControlActivities, 'observeReleasedVolume' | 'deleteVolume' | 'recordVolumeEvent'> {
  const { core } = kubernetes;

  async function observeReleasedVolume(input: {
    name: string;
    uid: string;
  }): Promise<{ volume?: ReleasedVolume; waiting?: string }> {
    const { name, uid } = input;
    const found = await callIfFound(`reading volume ${name}`, core.readPersistentVolume({ name }));
    if (!found || found.metadata?.uid !== uid || !isReclaimable(found)) return {};
    const path = found.spec?.hostPath?.path ?? '';
    const pool = (await listPools(kubernetes)).find((candidate) => liesIn(path, candidate));
    const node = await nodeOf(found);
    // whoever deletes it now, with its node gone, knows that the node never comes back
    if (!node && isGivenUp(found)) {
      await letGo(kubernetes, name, uid);
      return {};
    }
    if (pool && node) return { volume: { name, uid, node, path, pool } };
    const why = pool
      ? `no node has the label ${HOSTNAME_LABEL}=${hostnameOf(found)}; where the node is gone for good its data is too, and ` +
        `${releasedBy(found)} releases the volume`
      : 'it lies directly in no pool of a HostPathProvisioner';
    return { waiting: `${path} is not removed: ${why}` };
  }

  async function nodeOf(volume: V1PersistentVolume): Promise<string | undefined> {
    const hostname = hostnameOf(volume);
    const nodes = await listAll('listing nodes', (page) => core.listNode(page));
    return nodes.find(({ metadata }) => metadata?.labels?.[HOSTNAME_LABEL] === hostname)?.metadata?.name;
  }

  async function deleteVolume({ name, uid }: { name: string; uid: string }): Promise<void> {
    await deleteVolumeObject(kubernetes, name, { uid }, { emptied: true });
  }

  async function recordVolumeEvent(input: {
    name: string;
    uid: string;
    reason: string;
    message: string;
  }): Promise<void> {
    const { name, uid, reason, message } = input;
    const about = { apiVersion: 'v1', kind: 'PersistentVolume', name, uid };
    await recordEvent(kubernetes, about, { type: 'Warning', reason, message });
  }

  return { observeReleasedVolume, deleteVolume, recordVolumeEvent };
}

/** Released, to be deleted by its policy, and made by dvflow. */
export function isReclaimable(volume: V1PersistentVolume): boolean {
  return volume.status?.phase === 'Released' && isToBeEmptied(volume);
}

/** Deleted after it was Released; a deletion while a claim had it says nothing of a node that went later. */
function isGivenUp({ metadata, status }: V1PersistentVolume): boolean {
  const { deletionTimestamp } = metadata ?? {};
  if (!deletionTimestamp) return false;
  const { lastPhaseTransitionTime } = status ?? {};
  return !lastPhaseTransitionTime || deletionTimestamp >= lastPhaseTransitionTime;
}

/** The command by which an administrator gives up what lies on a node that is gone for good. */
function releasedBy({ metadata }: V1PersistentVolume): string {
  if (!metadata?.deletionTimestamp) return `"kubectl delete pv ${metadata?.name}"`;
  const retain = `{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}`;
  return `"kubectl patch pv ${metadata.name} -p '${retain}'"`;
}

/** Directly under the pool, so that no path of a hand-made volume leads elsewhere. */
function liesIn(path: string, { path: pool }: PoolRef): boolean {
  if (!path.startsWith(`${pool}/`)) return false;
  const directory = path.slice(pool.length + 1);
  return directory !== '' && !directory.startsWith('.') && !directory.includes('/');
}
