import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** A mounted hierarchy of cgroups. */
export interface Hierarchy {
  readonly path: string;
  readonly version: 1 | 2;
}

/** What a kubelet looks for, whatever it is told to do with it. */
const CONTROLLERS = ['cpu', 'cpuset', 'memory', 'pids'];

/** Longest wait for killed processes to be gone, in ms. */
const GONE_MS = 10_000;

/** Every hierarchy that is mounted and may be written: several with version 1, one with version 2, both on a hybrid. */
export function hierarchies(): readonly Hierarchy[] {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, path = '', type]) => /^cgroup2?$/.test(type ?? '') && isWritable(path))
    .map(([, path = '', type]) => ({ path, version: type === 'cgroup2' ? 2 : 1 }));
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Makes the cgroup of a node in every hierarchy, where its kubelet then makes those of the pods. */
export function createCgroup(name: string): void {
  const all = hierarchies();
  for (const { path, version } of all) {
    if (isUnified(all)) delegate(path);
    mkdirSync(join(path, name), { recursive: true });
    if (version === 1 && existsSync(join(path, 'cpuset.mems'))) inheritCpuset(path, join(path, name));
  }
  mkdirSync(dirname(processFile(name)), { recursive: true });
}

/**
 * The file that takes the pids of a node's own processes. One hierarchy is enough to find a process by; in version 2 a
 * group with groups below it may hold none itself.
 */
export function processFile(name: string): string {
  const all = hierarchies();
  const { path = '' } =
    all.find((hierarchy) => /\/(pids|freezer|systemd)$/.test(hierarchy.path)) ?? all[0] ?? {};
  return join(path, name, ...(isUnified(all) ? ['node'] : []), 'cgroup.procs');
}

function isUnified(all: readonly Hierarchy[]): boolean {
  return all.every(({ version }) => version === 2);
}

/** Controllers without which no kubelet starts, and that a node's cgroup does not have. */
export function missingControllers(name: string): readonly string[] {
  const all = hierarchies();
  const available = isUnified(all)
    ? readFileSync(join(all[0]?.path ?? '', name, 'cgroup.controllers'), 'utf8')
        .trim()
        .split(' ')
    : all.flatMap(({ path }) => basename(path).split(','));
  return CONTROLLERS.filter((controller) => !available.includes(controller));
}

/** Version 2: a group has the controllers that its parent hands down. */
function delegate(path: string): void {
  for (const controller of readFileSync(join(path, 'cgroup.controllers'), 'utf8').trim().split(' ')) {
    try {
      writeFileSync(join(path, 'cgroup.subtree_control'), `+${controller}`);
    } catch {
      // The kubelet names what it misses.
    }
  }
}

/** Version 1: no process may enter a cpuset that is empty, and a new one is. */
function inheritCpuset(parent: string, group: string): void {
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    writeFileSync(join(group, file), readFileSync(join(parent, file)));
  }
}

/**
 * Kills every process of a node's cgroup, containers included, and removes it with all groups below.
 * @throws when a process cannot be killed
 */
export async function removeCgroup(name: string): Promise<void> {
  const end = Date.now() + GONE_MS;
  for (;;) {
    const found = groupsOf(name);
    if (found.length === 0) return;
    const pids = new Set(found.flatMap(processesOf));
    for (const pid of pids) kill(pid);
    if (pids.size === 0) found.forEach(removeGroup);
    if (Date.now() > end) {
      throw new Error(
        pids.size > 0
          ? `processes ${[...pids].join(', ')} of cgroup ${name} do not end`
          : `cgroup ${name} cannot be removed: ${found.join(', ')}`,
      );
    }
    await sleep(50);
  }
}

/** Pids of all processes in a node's cgroup. */
export function cgroupProcesses(name: string): readonly number[] {
  return [...new Set(groupsOf(name).flatMap(processesOf))];
}

/** Removes a cgroup in which nothing runs. */
export function removeEmptyCgroup(name: string): void {
  groupsOf(name).forEach(removeGroup);
}

/** The groups of a node in every hierarchy, children before their parents. */
function groupsOf(name: string): readonly string[] {
  return hierarchies().flatMap(({ path }) => (existsSync(join(path, name)) ? tree(join(path, name)) : []));
}

/** A group and those below it, children first. */
function tree(group: string): readonly string[] {
  const below = list(group).flatMap((name) => tree(join(group, name)));
  return [...below, group];
}

function list(group: string): readonly string[] {
  try {
    return readdirSync(group, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name);
  } catch {
    return []; // gone in the meantime
  }
}

function processesOf(group: string): readonly number[] {
  try {
    const lines = readFileSync(join(group, 'cgroup.procs'), 'utf8').trim().split('\n');
    return lines.filter((line) => line !== '').map(Number);
  } catch {
    return []; // gone in the meantime, or a threaded group of version 2
  }
}

function kill(pid: number): void {
  // 0: a process of another pid namespace, which would be our own group
  if (pid <= 1) return;
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function removeGroup(group: string): void {
  try {
    rmdirSync(group);
  } catch (error) {
    // EBUSY: a process that is just going; ENOENT: the same group under another mount of its hierarchy
    if (!['EBUSY', 'ENOENT', 'ENOTEMPTY'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}
