/** The directories under which hostpath volumes are made, as HostPathProvisioner objects name them. */
import type { V1Node, V1StorageClass } from '@kubernetes/client-node';
import { permanentFailure } from '../failures.js';
import type { PoolRef } from '../types.js';
import { plainDirectory } from '../without-end.js';
import { call } from './client.js';
import type { Kubernetes } from './client.js';
import { HPP_GROUP } from './names.js';
import type { HostPathProvisioner } from './objects.js';
import { chooseNodes } from './preparation/node-selection.js';
import type { WatchedProvisioner } from './preparation/objects.js';
import { refusalOfDirectories } from './preparation/provisioner-spec.js';
import { MAX_NODES } from './preparation/status.js';

/** Name of the pool of `pathConfig`, as the CSI driver of hostpath-provisioner calls it. */
const LEGACY_POOL = 'legacy';

/** Parameter of a StorageClass that names a pool. */
const STORAGE_POOL = 'storagePool';

/** Every HostPathProvisioner, by name. */
export async function readProvisioners({ custom }: Kubernetes): Promise<readonly HostPathProvisioner[]> {
  const answer: unknown = await call(
    'listing HostPathProvisioners',
    custom.listClusterCustomObject({ group: HPP_GROUP, version: 'v1beta1', plural: 'hostpathprovisioners' }),
  );
  const { items } = answer as { items: HostPathProvisioner[] };
  return items.toSorted((a, b) => a.metadata.name.localeCompare(b.metadata.name));
}

/** Pools of all HostPathProvisioner objects, by the object's name and then in its own order: volumes may be in any of them. */
export async function listPools(kubernetes: Kubernetes): Promise<PoolRef[]> {
  return (await readProvisioners(kubernetes)).flatMap(poolsOf);
}

/** Pools in which volumes may be made, and why there are not more. */
export interface UsablePools {
  readonly pools: readonly PoolRef[];
  /** `HostPathProvisioner hpp is refused: …`. */
  readonly refusals: readonly string[];
}

/** As {@link listPools}, without those of a HostPathProvisioner whose directories `prepareStorage` refuses. */
export async function listUsablePools(kubernetes: Kubernetes): Promise<UsablePools> {
  return usablePools(await readProvisioners(kubernetes));
}

/** What {@link listUsablePools} makes of what it reads. */
export function usablePools(provisioners: readonly HostPathProvisioner[]): UsablePools {
  const judged = provisioners.map((provisioner) => ({ provisioner, why: refusalOf(provisioner) }));
  return {
    pools: judged.flatMap(({ provisioner, why }) => (why === undefined ? poolsOf(provisioner) : [])),
    refusals: judged.flatMap(({ provisioner: { metadata }, why }) =>
      why === undefined ? [] : [`HostPathProvisioner ${metadata.name} is refused: ${why}`],
    ),
  };
}

function refusalOf({ spec }: HostPathProvisioner): string | undefined {
  return refusalOfDirectories(spec as WatchedProvisioner['spec']);
}

/** Names of the nodes that a pool is placed on by now; `undefined` where no HostPathProvisioner names it. */
export function nodesOfPool(
  { path }: Pick<PoolRef, 'path'>,
  provisioners: readonly HostPathProvisioner[],
  nodes: readonly V1Node[],
): ReadonlySet<string> | undefined {
  const naming = provisioners.filter((one) => poolsOf(one).some((pool) => pool.path === path));
  if (naming.length === 0) return undefined;
  return new Set(
    naming.flatMap(({ spec }) => chooseNodes(nodes, spec?.workload, false).selected.map(({ node }) => node)),
  );
}

/**
 * Nodes by pool, as the status of the HostPathProvisioners tells them: elsewhere nobody expects the directory. A pool whose nodes
 * nobody has told yet is not among them.
 */
export function toldNodes(
  provisioners: readonly HostPathProvisioner[],
): Readonly<Record<string, readonly string[]>> {
  const told = new Map<string, readonly string[] | undefined>();
  for (const provisioner of provisioners)
    for (const { path } of poolsOf(provisioner)) {
      const names = provisioner.status?.nodes?.map(({ name }) => name);
      // a full list may leave some out
      const known = names && names.length < MAX_NODES ? names : undefined;
      const before = told.get(path);
      told.set(path, told.has(path) ? before && known && [...before, ...known] : known);
    }
  return Object.fromEntries([...told].flatMap(([path, names]) => (names ? [[path, names] as const] : [])));
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
        path: plainDirectory(path),
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
export function choosePool(
  storageClass: V1StorageClass,
  pools: readonly PoolRef[],
  refusals: readonly string[] = [],
): PoolRef {
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
  throw permanentFailure(
    'StorageClassNotFound',
    `StorageClass "${metadata?.name}" cannot be served: ${[why, ...refusals].join('; ')}`,
  );
}
