import { existsSync, readdirSync, statSync, type Stats } from 'node:fs';
import { basename, join, sep } from 'node:path';
import { removeBridge } from './bridge.js';
import { removeCgroup } from './cgroups.js';
import { runTool } from './run-tool.js';
import type { LocalNode } from './types.js';

/**
 * Takes away what the nodes have in the kernel: processes and containers, cgroups, bridges. Their mounts go with their last
 * process. Works from the plan alone, so that it does not matter how far a start had come or what has been killed.
 * @throws naming everything that could not be removed
 */
export async function removeNodes(nodes: readonly LocalNode[]): Promise<void> {
  const results = await Promise.allSettled(
    nodes.map(async ({ cgroup, bridge }) => {
      await removeCgroup(cgroup);
      await removeBridge(bridge);
    }),
  );
  const errors = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as Error] : []));
  if (errors.length > 0) throw new Error(errors.map(({ message }) => message).join('; '));
}

/**
 * Loop devices that the kubelets have attached to the devices of block volumes. Asked before the last process of a node
 * ends: after that the kernel does not know their paths any more.
 */
export async function kubeletLoopDevices(nodes: readonly LocalNode[]): Promise<readonly string[]> {
  const attached = await attachedLoopDevices();
  const ours = attached.filter(({ file }) =>
    nodes.some(({ directory }) => file.startsWith(join(directory, 'kubelet', sep))),
  );
  return ours.map(({ name }) => name);
}

/**
 * Detaches the named loop devices, then every one whose file lies in the directory, and those on top of them: a worker that
 * starts again attaches its own anew.
 */
export async function detachLoopDevices(directory: string, others: readonly string[]): Promise<void> {
  const attached = await attachedLoopDevices();
  const ours = attached.filter(
    ({ name, file }) => others.includes(name) || file.startsWith(`${directory}${sep}`),
  );
  // What lies on top of ours goes first, and whatever is on top of that before it.
  for (let top = ours; top.length > 0;) {
    const numbers = top.map(({ name }) => statSync(name));
    top = attached.filter((device) => !ours.includes(device) && numbers.some((below) => isOn(device, below)));
    ours.unshift(...top);
  }
  for (const { name } of ours) await runTool('losetup', '--detach', name).catch(ifAttached(name));
}

interface LoopDevice {
  readonly name: string;
  /** Path of its file; `/` where the mount that it was in is gone. */
  readonly file: string;
  /** Device number of the file system that its file is in, as `major:minor`, and the file's inode there. */
  readonly fileSystem: string;
  readonly inode: number;
}

async function attachedLoopDevices(): Promise<readonly LoopDevice[]> {
  // A machine without any may lack the program too.
  if (!readdirSync('/sys/block').some((name) => existsSync(`/sys/block/${name}/loop`))) return [];
  const text = await runTool(
    'losetup',
    '--list',
    '--json',
    '--output',
    'NAME,BACK-FILE,BACK-MAJ:MIN,BACK-INO',
  );
  if (text.trim() === '') return [];
  const { loopdevices } = JSON.parse(text) as { loopdevices: readonly Record<string, string | number>[] };
  return loopdevices.map((device) => ({
    name: String(device['name']),
    file: String(device['back-file']),
    fileSystem: String(device['back-maj:min']).trim(),
    inode: Number(device['back-ino']),
  }));
}

function isOn({ fileSystem, inode }: LoopDevice, { dev, ino }: Stats): boolean {
  // Of the kernel's device numbers, as glibc's gnu_dev_major and gnu_dev_minor take them apart.
  const major = (dev >> 8) & 0xfff;
  const minor = (dev & 0xff) | ((dev >> 12) & 0xfff00);
  return inode === ino && fileSystem === `${major}:${minor}`;
}

/** One that is gone was detached with the last of what used it. */
function ifAttached(name: string): (error: unknown) => void {
  return (error) => {
    if (existsSync(`/sys/block/${basename(name)}/loop`)) throw error;
  };
}
