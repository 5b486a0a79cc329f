import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createCgroup, hierarchies, missingControllers, removeEmptyCgroup } from './cgroups.js';

/** Programs that a real node consists of, each with its Debian package. */
const PROGRAMS = {
  containerd: 'containerd',
  ctr: 'containerd',
  runc: 'runc',
  busybox: 'busybox-static',
  ip: 'iproute2',
  mount: 'mount',
  losetup: 'mount',
  unshare: 'util-linux',
  nsenter: 'util-linux',
  tar: 'tar',
} as const;

const PLUGINS = ['bridge', 'host-local', 'loopback'];
const PLUGIN_DIRECTORIES = ['/usr/lib/cni', '/opt/cni/bin'];

/** Administrator's programs, which an ordinary PATH may leave out. */
export const TOOL_PATH = `${process.env['PATH'] ?? ''}:/usr/local/sbin:/usr/sbin:/sbin`;

/** Path of a program that a node needs; undefined when it is not installed. */
export function findNodeProgram(name: keyof typeof PROGRAMS): string | undefined {
  const directories = TOOL_PATH.split(':').filter((directory) => directory !== '');
  return directories.map((directory) => join(directory, name)).find((path) => existsSync(path));
}

/** Directory of the CNI plugins; undefined when they are not installed. */
export function findPlugins(): string | undefined {
  return PLUGIN_DIRECTORIES.find((directory) =>
    PLUGINS.every((plugin) => existsSync(join(directory, plugin))),
  );
}

/** What keeps this machine from running real nodes, with the cure; undefined when nothing does. Leaves nothing behind. */
export function nodesRefusal(): string | undefined {
  if (process.getuid?.() !== 0) {
    return 'real nodes (kubelet, containerd, mounts, cgroups) need root: run the command as root, or without --nodes';
  }
  const programs = (Object.keys(PROGRAMS) as (keyof typeof PROGRAMS)[])
    .filter((name) => findNodeProgram(name) === undefined)
    .map((name) => PROGRAMS[name]);
  const missing = [
    ...new Set([...programs, ...(findPlugins() === undefined ? ['containernetworking-plugins'] : [])]),
  ];
  if (missing.length > 0) {
    return `real nodes need programs that are not installed: apt-get install -y --no-install-recommends ${missing.join(' ')}`;
  }
  return kernelRefusal();
}

/** Root of a container may do less than root: each thing that a node needs is tried once. */
function kernelRefusal(): string | undefined {
  const env = { ...process.env, PATH: TOOL_PATH };
  const run = (file: string, ...args: readonly string[]): string | undefined => {
    const { status, stderr, error } = spawnSync(file, args, { env, encoding: 'utf8' });
    return status === 0 ? undefined : `${file} ${args.join(' ')}: ${error?.message ?? stderr.trim()}`;
  };
  const bridge = `dvfprobe${process.pid % 1_000_000}`;
  const refused =
    run('unshare', '--mount', '--propagation', 'slave', 'mount', '-t', 'tmpfs', 'dvflow-probe', '/run') ??
    run('ip', 'link', 'add', 'name', bridge, 'type', 'bridge') ??
    run('ip', 'link', 'delete', 'dev', bridge) ??
    cgroupRefusal();
  return (
    refused && `real nodes need mounts, bridges and cgroups, which this machine does not allow: ${refused}`
  );
}

/** Makes a cgroup as a node has one: in a container the controllers may be kept from those below. */
function cgroupRefusal(): string | undefined {
  if (hierarchies().length === 0) return 'no cgroups are mounted that may be written';
  const name = `dvflow-probe-${process.pid}`;
  try {
    createCgroup(name);
    const missing = missingControllers(name);
    return missing.length === 0 ? undefined : `new cgroups lack the controllers ${missing.join(', ')}`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    removeEmptyCgroup(name);
  }
}
