/** Volumes in a pool that dvflow did not make: their node keeps no promise of them, so what they take is counted here. */
import type { V1PersistentVolume } from '@kubernetes/client-node';
import type { PoolRef } from '../types.js';
import { listAll, listVolumes } from './client.js';
import type { Kubernetes } from './client.js';
import { HOSTNAME_LABEL, HOSTPATH_PROVISIONERS, IDENTITY } from './names.js';
import { parseQuantity } from './quantity.js';

/** Every volume, with a capacity that is its own. */
export async function readVolumes({ core }: Kubernetes): Promise<V1PersistentVolume[]> {
  const volumes = await listVolumes({ core });
  if (!volumes.some(hasPoolsCapacity)) return volumes;
  const claims = await listAll('listing claims', (page) =>
    core.listPersistentVolumeClaimForAllNamespaces(page),
  );
  const requests = new Map(claims.map(({ metadata, spec }) => [metadata?.uid, spec?.resources?.requests]));
  return volumes.map((volume) =>
    hasPoolsCapacity(volume)
      ? { ...volume, spec: { ...volume.spec, capacity: requests.get(volume.spec?.claimRef?.uid) ?? {} } }
      : volume,
  );
}

/** hostpath-provisioner says of each volume that it is as large as the whole pool: what its claim asked for is meant. */
function hasPoolsCapacity({ metadata }: V1PersistentVolume): boolean {
  const identity = metadata?.annotations?.hostPathProvisionerIdentity ?? '';
  return HOSTPATH_PROVISIONERS.some((provisioner) => identity.startsWith(provisioner));
}

/** Bytes that volumes of others were promised in this pool on this node. */
export function foreignBytes(
  volumes: readonly V1PersistentVolume[],
  { path }: PoolRef,
  hostname: string,
): number {
  return volumes
    .filter((volume) => isForeign(volume, path) && hostnameOf(volume) === hostname)
    .reduce((sum, { spec }) => sum + Number(parseQuantity(spec?.capacity?.storage ?? '0') ?? 0n), 0);
}

function isForeign({ metadata, spec }: V1PersistentVolume, pool: string): boolean {
  const path = spec?.hostPath?.path ?? spec?.local?.path ?? '';
  return path.startsWith(`${pool}/`) && metadata?.annotations?.hostPathProvisionerIdentity !== IDENTITY;
}

/** The one hostname that a volume's nodeAffinity names. */
export function hostnameOf({ spec }: V1PersistentVolume): string | undefined {
  const terms = spec?.nodeAffinity?.required?.nodeSelectorTerms ?? [];
  return terms
    .flatMap(({ matchExpressions = [] }) => matchExpressions)
    .find(({ key }) => key === HOSTNAME_LABEL)?.values?.[0];
}
