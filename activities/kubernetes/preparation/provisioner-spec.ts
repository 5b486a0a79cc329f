/** What the specification of a HostPathProvisioner says, and what is refused in it before a node is touched. */
import { refusalOf } from '../../backing-path.js';
import type { BackingDirectory, ProvisionerFacts, StorageClassRequest } from '../../types/preparation.js';
import { plainDirectory } from '../../without-end.js';
import { invalidDeadline, parseDeadline } from '../data-volume-facts.js';
import { MARKS } from '../names.js';
import type { WatchedProvisioner } from './objects.js';

/** hostpath-provisioner's name of the pool that `pathConfig` stands for (`vm-disks-docs.md` §(d2)). */
export const LEGACY_POOL = 'legacy';

/** Facts of a HostPathProvisioner as it is now. */
export function factsOf({ metadata, spec }: WatchedProvisioner): ProvisionerFacts {
  const { name, uid, generation = 0, annotations = {} } = metadata;
  const directories = directoriesOf(spec);
  const asked = storageClassesOf(annotations[MARKS.storageClass], directories);
  const deadlineMs = parseDeadline(annotations[MARKS.deadline]);
  const refused =
    refusalOfDirectories(spec) ??
    (typeof asked === 'string' ? asked : undefined) ??
    (deadlineMs === undefined ? invalidDeadline(annotations[MARKS.deadline]) : undefined);
  return {
    name,
    uid,
    generation,
    directories,
    storageClasses: typeof asked === 'string' ? [] : asked,
    deadlineMs: deadlineMs ?? 0,
    ...(refused === undefined ? {} : { refused }),
  };
}

/** Why no volume may lie in these directories, or `undefined`; what else a specification asks for does not matter to a volume. */
export function refusalOfDirectories(spec: WatchedProvisioner['spec']): string | undefined {
  const directories = directoriesOf(spec);
  const paths = directories.map(({ path }) => refusalOf(path));
  return templateOf(spec) ?? paths.find((why) => why !== undefined) ?? nestingOf(directories);
}

/** A pool in a claim of its own is a volume of somebody else's: dvflow has none to prepare. */
function templateOf(spec: WatchedProvisioner['spec']): string | undefined {
  const pool = poolsOf(spec).find(({ pvcTemplate }) => pvcTemplate !== undefined);
  return pool && `storage pool ${pool.name} has a pvcTemplate: pools lie in directories of the nodes here`;
}

/** The directories: the one of `pathConfig`, or those of `storagePools`. */
export function directoriesOf(spec: WatchedProvisioner['spec']): readonly BackingDirectory[] {
  const path: unknown = spec?.pathConfig?.path;
  const legacy = typeof path === 'string' ? [{ pool: LEGACY_POOL, path }] : [];
  const pools = poolsOf(spec).map(({ name, path: at }) => ({ pool: name, path: at }));
  return [...legacy, ...pools].map(({ pool, path: at }) => ({ pool, path: plainDirectory(at) }));
}

type Pool = NonNullable<NonNullable<WatchedProvisioner['spec']>['storagePools']>[number];

/** The named pools; what is none in a manifest that the API server has not seen yet, it will refuse. */
function poolsOf(spec: WatchedProvisioner['spec']): readonly Pool[] {
  const pools: unknown = spec?.storagePools;
  return Array.isArray(pools) ? pools.filter(isPool) : [];
}

function isPool(value: unknown): value is Pool {
  if (typeof value !== 'object' || value === null) return false;
  const { name, path } = value as { name?: unknown; path?: unknown };
  return typeof name === 'string' && typeof path === 'string';
}

/** A pool inside a pool would be labelled, counted and swept as one of its volumes. */
function nestingOf(directories: readonly BackingDirectory[]): string | undefined {
  for (const outer of directories) {
    const inner = directories.find(({ path }) => path.startsWith(`${outer.path}/`));
    if (inner)
      return `backing directory ${inner.path} lies inside ${outer.path}: a pool inside a pool is none`;
  }
  return undefined;
}

/**
 * The classes that the annotation asks for: `<class>`, or with several pools `<pool>=<class>`, separated by commas. Text that asks
 * for nothing that can be made is answered by the reason.
 */
export function storageClassesOf(
  text: string | undefined,
  directories: readonly BackingDirectory[],
): readonly StorageClassRequest[] | string {
  const parts = (text ?? '').split(',').map((part) => part.trim());
  const requests: StorageClassRequest[] = [];
  for (const part of parts.filter((one) => one !== '')) {
    const [first = '', second] = part.split('=').map((one) => one.trim());
    const [only, ...others] = directories;
    const says = (why: string): string =>
      `annotation ${MARKS.storageClass} has ${JSON.stringify(part)}: ${why}`;
    if (second === undefined && others.length > 0)
      return says('with several storage pools write <pool>=<StorageClass>');
    const name = second ?? first;
    const pool = second === undefined ? (only?.pool ?? '') : first;
    if (!directories.some((one) => one.pool === pool))
      return says(`there is no pool ${JSON.stringify(pool)}`);
    if (!/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/.test(name))
      return says(`${JSON.stringify(name)} is not the name of a StorageClass`);
    if (requests.some((one) => one.name === name)) return says(`StorageClass ${name} is asked for twice`);
    requests.push({ name, pool });
  }
  return requests;
}
