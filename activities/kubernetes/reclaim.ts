/** Volumes whose claim is gone: which of them dvflow may empty, and the end of their objects. */
import type { V1PersistentVolume } from '@kubernetes/client-node';
import type { ControlActivities } from '../interfaces.js';
import type { PoolRef, ReleasedVolume } from '../types.js';
import { callForOutcome, callIfFound, listAll } from './client.js';
import type { Kubernetes } from './client.js';
import { recordEvent } from './events.js';
import { HOSTNAME_LABEL, HOSTPATH_PROVISIONERS, IDENTITY, PROVISIONED_BY } from './names.js';
import { hostnameOf } from './foreign-volumes.js';
import { listPools } from './pools.js';

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
    if (pool && node) return { volume: { name, uid, node, path, pool } };
    const why = pool
      ? `no node has the label ${HOSTNAME_LABEL}=${hostnameOf(found)}; where the node is gone for good its data is too, and ` +
        `"kubectl delete pv ${name}" releases the volume`
      : 'it lies directly in no pool of a HostPathProvisioner';
    return { waiting: `${path} is not removed: ${why}` };
  }

  async function nodeOf(volume: V1PersistentVolume): Promise<string | undefined> {
    const hostname = hostnameOf(volume);
    const nodes = await listAll('listing nodes', (page) => core.listNode(page));
    return nodes.find(({ metadata }) => metadata?.labels?.[HOSTNAME_LABEL] === hostname)?.metadata?.name;
  }

  async function deleteVolume({ name, uid }: { name: string; uid: string }): Promise<void> {
    await callForOutcome(
      `deleting volume ${name}`,
      core.deletePersistentVolume({ name, body: { preconditions: { uid } } }),
    );
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

/** Released, to be deleted by its policy, and made by dvflow: another provisioner's volume is never touched. */
export function isReclaimable({ metadata, spec, status }: V1PersistentVolume): boolean {
  const { annotations = {} } = metadata ?? {};
  return (
    status?.phase === 'Released' &&
    spec?.persistentVolumeReclaimPolicy === 'Delete' &&
    HOSTPATH_PROVISIONERS.includes(annotations[PROVISIONED_BY] ?? '') &&
    annotations.hostPathProvisionerIdentity === IDENTITY
  );
}

/** Directly under the pool, so that no path of a hand-made volume leads elsewhere. */
function liesIn(path: string, { path: pool }: PoolRef): boolean {
  if (!path.startsWith(`${pool}/`)) return false;
  const directory = path.slice(pool.length + 1);
  return directory !== '' && !directory.startsWith('.') && !directory.includes('/');
}
