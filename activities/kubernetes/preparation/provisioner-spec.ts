/** What the specification of a HostPathProvisioner says, and what is refused in it before a node is touched. */
import { isAbsolute, normalize } from 'node:path';
import type { BackingDirectory, ProvisionerFacts, StorageClassRequest } from '../../types/preparation.js';
import { invalidDeadline, parseDeadline } from '../data-volume-facts.js';
import { MARKS } from '../names.js';
import type { WatchedProvisioner } from './objects.js';

/** hostpath-provisioner's name of the pool that `pathConfig` stands for (`vm-disks-docs.md` §(d2)). */
export const LEGACY_POOL = 'legacy';

/** Below these lies the operating system: another label there is the end of the node. */
const SYSTEM_TREES = [
  ...['/bin', '/boot', '/dev', '/etc', '/lib', '/lib32', '/lib64', '/proc', '/sbin', '/sys', '/usr'],
  ...[
    '/sysroot',
    '/ostree',
    '/var/lib/kubelet',
    '/var/lib/containers',
    '/var/lib/containerd',
    '/var/lib/etcd',
  ],
  ...['/var/lib/docker', '/var/lib/rpm', '/var/lib/dpkg', '/var/lib/selinux', '/var/usrlocal'],
];

/** Directories that hold those of others: one below them may be a pool, they themselves may not. */
const SHARED_DIRECTORIES = [
  ...[
    'cache',
    'home',
    'lib',
    'local',
    'lock',
    'log',
    'mail',
    'mnt',
    'opt',
    'roothome',
    'run',
    'spool',
    'srv',
  ],
  'tmp',
].map((name) => `/var/${name}`);

/** Facts of a HostPathProvisioner as it is now. */
export function factsOf({ metadata, spec }: WatchedProvisioner): ProvisionerFacts {
  const { name, uid, generation = 0, annotations = {} } = metadata;
  const directories = directoriesOf(spec);
  const asked = storageClassesOf(annotations[MARKS.storageClass], directories);
  const deadlineMs = parseDeadline(annotations[MARKS.deadline]);
  const refused =
    templateOf(spec) ??
    directories.map(({ path }) => refusalOf(path)).find((why) => why !== undefined) ??
    nestingOf(directories) ??
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
  return [...legacy, ...pools].map(({ pool, path: at }) => ({ pool, path: at.replace(/(?<=.)\/+$/, '') }));
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

/** Why a path is no backing directory, or `undefined`. */
export function refusalOf(path: string): string | undefined {
  const says = (why: string): string => `backing directory ${JSON.stringify(path)} ${why}`;
  // a unit file and a rule of SELinux have one line each
  if (/[\u0000-\u001f\u007f]/.test(path)) return says('has a control character in its name');
  if (!isAbsolute(path)) return says('is no absolute path');
  if (normalize(path) !== path) return says('is not written out: leave out ., .., and repeated slashes');
  if (path === '/' || path.lastIndexOf('/') === 0) {
    return says(
      'lies in the root directory /, which is read-only on RHCOS: name one below it, /var/hpvolumes',
    );
  }
  const tree = SYSTEM_TREES.find((system) => path === system || path.startsWith(`${system}/`));
  if (tree) return says(`belongs to the operating system (${tree}): name one of its own, /var/hpvolumes`);
  if (!SHARED_DIRECTORIES.includes(path)) return undefined;
  return says(`holds more than volumes: name a directory below it, ${path}/hpvolumes`);
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
