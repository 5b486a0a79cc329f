/**
 * Each node is a mount namespace: what containerd and the kubelet mount there is seen by nobody else, and goes with the
 * last of their processes, however that ends. The same path of the pool leads to another directory on each node.
 */
import { join } from 'node:path';
import { processFile } from './cgroups.js';
import { findNodeProgram } from './requirements.js';
import { KERNEL_SETTINGS } from './kubelet.js';
import type { LocalNode } from './types.js';

/** Directories of the machine that programs of a node write to without being asked, and their names in the node's own. */
const SHADOWED = {
  '/var/lib/cni': 'var-lib-cni',
  '/var/lib/kubelet': 'var-lib-kubelet',
  '/var/log/containers': 'var-log-containers',
} as const;

/** Enters the cgroup, shows each directory of the node under its path, and becomes the program. */
const SCRIPT = `
echo $$ > "$1"; shift
while [ "$1" != -- ]; do
  case $1 in
    run) mount -t tmpfs -o mode=755,size=64m dvflow-node /run; shift ;;
    share) mount --make-rshared /; shift ;;
    directory) mkdir -p "$3"; mount --bind "$2" "$3"; shift 3 ;;
    file) if [ -e "$3" ]; then mount --bind "$2" "$3"; fi; shift 3 ;;
  esac
done
shift
exec "$@"`;

/** Directories that a node needs, relative to its own. */
export const NODE_DIRECTORIES = [
  'pool',
  'cni',
  'containerd',
  'kubelet',
  'pod-logs',
  'volume-plugins',
  'kernel',
  'worker',
  'devices',
  ...Object.values(SHADOWED),
];

/** Those that a machine has anew at every start. */
export const VOLATILE_DIRECTORIES = ['cni', 'devices'];

/** A program and its arguments. */
export interface Argv {
  readonly file: string;
  readonly args: readonly string[];
}

/** How the copies of the kernel's settings are named in the directory `kernel` of a node. */
export function settingFile(setting: string): string {
  return setting.replaceAll('/', '.');
}

/** The program in a new mount namespace with everything of its node: the first process of a node. */
export function inNewNode(node: LocalNode, pool: string, argv: readonly string[]): Argv {
  const own = (name: string): string => join(node.directory, name);
  const directories = Object.entries(SHADOWED).map(([path, name]) => [own(name), path]);
  const settings = Object.keys(KERNEL_SETTINGS).map((setting) => [
    join(own('kernel'), settingFile(setting)),
    join('/proc/sys', setting),
  ]);
  return unshare(node, [
    'run',
    ...[...directories, [node.pool, pool]].flatMap((pair) => ['directory', ...pair]),
    ...settings.flatMap((pair) => ['file', ...pair]),
    // A container may ask to see what is mounted later; that takes shared mounts, as on a machine with systemd.
    'share',
    '--',
    ...argv,
  ]);
}

/** The program in a new mount namespace in which only the pool is the node's: a worker is no part of the node's runtime. */
export function withPool(node: LocalNode, pool: string, argv: readonly string[]): Argv {
  return unshare(node, ['directory', node.pool, pool, '--', ...argv]);
}

/** The program in the mount namespace of a process. */
export function inNodeOf(node: LocalNode, pid: number, argv: readonly string[]): Argv {
  const args = [`--mount=/proc/${pid}/ns/mnt`, ...shell(node), '--', ...argv];
  return { file: findNodeProgram('nsenter') ?? 'nsenter', args };
}

function unshare(node: LocalNode, words: readonly string[]): Argv {
  // Slave: what the machine mounts or unmounts later is seen here too, and nothing of ours there.
  const args = ['--mount', '--propagation', 'slave', ...shell(node), ...words];
  return { file: findNodeProgram('unshare') ?? 'unshare', args };
}

function shell({ cgroup }: LocalNode): readonly string[] {
  return ['sh', '-ec', SCRIPT, 'dvflow-node', processFile(cgroup)];
}
