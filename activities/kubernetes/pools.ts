/** The directories under which hostpath volumes are made, as HostPathProvisioner objects name them. */
import type { V1StorageClass } from '@kubernetes/client-node';
import { permanentFailure } from '../failures.js';
import type { PoolRef } from '../types.js';
import { call } from './client.js';
import type { Kubernetes } from './client.js';
import { HPP_GROUP } from './names.js';
import type { HostPathProvisioner } from './objects.js';

/** Name of the pool of `pathConfig`, as the CSI driver of hostpath-provisioner calls it. */
const LEGACY_POOL = 'legacy';

/** Parameter of a StorageClass that names a pool. */
const STORAGE_POOL = 'storagePool';

/** Pools of all HostPathProvisioner objects, by the object's name and then in its own order. */
export async function listPools({ custom }: Kubernetes): Promise<PoolRef[]> {
  const answer: unknown = await call(
    'listing HostPathProvisioners',
    custom.listClusterCustomObject({ group: HPP_GROUP, version: 'v1beta1', plural: 'hostpathprovisioners' }),
  );
  return (answer as { items: HostPathProvisioner[] }).items
    .toSorted((a, b) => a.metadata.name.localeCompare(b.metadata.name))
    .flatMap(poolsOf);
}

/** Pools of one HostPathProvisioner: that of `pathConfig`, or those of `storagePools`. */
export function poolsOf({ spec }: Pick<HostPathProvisioner, 'spec'>): PoolRef[] {
  const { pathConfig, storagePools = [] } = spec ?? {};
  const named = pathConfig?.path ? [{ ...pathConfig, name: LEGACY_POOL }] : storagePools;
  return named.flatMap(({ name, path, overcommit, ...more }) => {
    if (!path || !name) return [];
    return [
      {
        name,
        path: path.replace(/(?<=.)\/+$/, ''),
        // a boolean in v1beta1, a string in v1alpha1; named pools have none
        useNamingPrefix: 'useNamingPrefix' in more && String(more.useNamingPrefix).toLowerCase() === 'true',
        ...(overcommit !== undefined && overcommit > 1 ? { overcommit } : {}),
      },
    ];
  });
}

/** The pool of a class: the one that its parameter `storagePool` names, else that of `pathConfig`, else the only one. */
export function poolOf({ parameters }: V1StorageClass, pools: readonly PoolRef[]): PoolRef | undefined {
  const asked = parameters?.[STORAGE_POOL] || undefined;
  const named = pools.find(({ name = LEGACY_POOL }) => name === (asked ?? LEGACY_POOL));
  return named ?? (asked === undefined && pools.length === 1 ? pools[0] : undefined);
}

/** {@link poolOf}. @throws {@link FailureType} `StorageClassNotFound` where there is none, with those that are there */
export function choosePool(storageClass: V1StorageClass, pools: readonly PoolRef[]): PoolRef {
  const pool = poolOf(storageClass, pools);
  if (pool) return pool;
  const { metadata, parameters } = storageClass;
  const asked = parameters?.[STORAGE_POOL];
  const names = pools.map(({ name = LEGACY_POOL }) => name).join(', ');
  const why =
    pools.length === 0
      ? 'there is no HostPathProvisioner that says in which directory volumes are made'
      : asked
        ? `its parameter ${STORAGE_POOL} is ${asked}, and the pools are ${names}`
        : `it has no parameter ${STORAGE_POOL}, and the pools are ${names}`;
  throw permanentFailure('StorageClassNotFound', `StorageClass "${metadata?.name}" cannot be served: ${why}`);
}
