import type { V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { permanentFailure } from '../failures.js';
import type { ReservedVolume } from '../types/local-volumes.js';
import type { UploadClaim } from '../types/upload.js';
import { callIfFound, listAll } from './client.js';
import type { Kubernetes } from './client.js';
import { HOSTNAME_LABEL } from './names.js';
import { nodesOf } from './node-affinity.js';
import { parseQuantity } from './quantity.js';

/**
 * The volume of a Bound claim, as one that is filled where it is. Its `dataVolume` is the claim itself.
 * @throws {@link FailureType} `IncompatiblePVC` for a volume that a node worker cannot reach
 */
export async function boundVolume(
  { core }: Kubernetes,
  claim: V1PersistentVolumeClaim,
): Promise<ReservedVolume | Required<Pick<UploadClaim, 'waiting'>>> {
  const { namespace = '', name = '', uid = '' } = claim.metadata ?? {};
  const volumeName = claim.spec?.volumeName ?? '';
  const volume = await callIfFound(
    `reading volume ${volumeName}`,
    core.readPersistentVolume({ name: volumeName }),
  );
  if (volume?.spec?.claimRef?.uid !== uid || !volume.spec)
    return waitFor(`PersistentVolume ${volumeName} of claim ${namespace}/${name} is not there`);
  const path = volume.spec.hostPath?.path ?? volume.spec.local?.path;
  const refused = (why: string): Error =>
    permanentFailure('IncompatiblePVC', `PersistentVolume ${volumeName} cannot be uploaded into: ${why}`);
  if (!path) throw refused('it is neither a hostPath nor a local volume');
  const nodes = nodesOf(volume, await listAll('listing nodes', (page) => core.listNode(page)));
  const [node] = nodes;
  if (nodes.length > 1) throw refused(`it does not say which of ${nodes.length} nodes it is on`);
  if (!node) return waitFor(`the node of PersistentVolume ${volumeName} is not in the cluster`);
  const nodeName = node.metadata?.name ?? '';
  return {
    node: nodeName,
    hostname: node.metadata?.labels?.[HOSTNAME_LABEL] ?? nodeName,
    dataVolume: { namespace, name, uid },
    volume: volumeName,
    volumeUid: volume.metadata?.uid ?? '',
    storageClass: volume.spec.storageClassName ?? '',
    volumeMode: volume.spec.volumeMode === 'Block' ? 'Block' : 'Filesystem',
    path,
    capacityBytes: Number(parseQuantity(volume.spec.capacity?.['storage'] ?? '0') ?? 0n),
  };
}

function waitFor(message: string): Required<Pick<UploadClaim, 'waiting'>> {
  return { waiting: { reason: 'Pending', message, counts: false } };
}
