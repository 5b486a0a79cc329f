/**
 * A node's SELinux as far as a file system and a kernel without SELinux can be one: real labels in real attributes, judged by
 * `ls -Z`, and a directory that shows what selinuxfs shows.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import { openLabelAccess } from '../../../activities/node/preparation/xattr.js';

/** The label that a fresh directory below /var has by the policy's default. */
export const FRESH = 'unconfined_u:object_r:var_t:s0';

/** A temporary directory with a selinuxfs in it. */
export function makeSelinuxWorld(): {
  base: string;
  selinuxfs: string;
  setEnforcing(enforcing: boolean): void;
  remove(): void;
} {
  const base = mkdtempSync(join(tmpdir(), 'dvflow-selinux-'));
  const selinuxfs = join(base, 'selinuxfs');
  mkdirSync(selinuxfs);
  const setEnforcing = (enforcing: boolean): void =>
    writeFileSync(join(selinuxfs, 'enforce'), enforcing ? '1' : '0');
  setEnforcing(true);
  return { base, selinuxfs, setEnforcing, remove: () => rmSync(base, { recursive: true, force: true }) };
}

/** A directory that lies, as one that nobody has mounted into a worker's pod, in the layer of a container. Needs root. */
export function mountContainerLayer(base: string): { path: string; unmount: () => void } {
  const layers = join(base, 'layers');
  const path = join(layers, 'disk');
  mkdirSync(layers);
  // an overlay needs an upper directory that is none itself
  execFileSync('mount', ['-t', 'tmpfs', 'none', layers]);
  for (const name of ['lower', 'upper', 'work', 'disk']) mkdirSync(join(layers, name));
  const options = `lowerdir=${layers}/lower,upperdir=${layers}/upper,workdir=${layers}/work`;
  execFileSync('mount', ['-t', 'overlay', 'none', '-o', options, path]);
  const unmount = (): void => {
    execFileSync('umount', [path]);
    execFileSync('umount', [layers]);
  };
  return { path, unmount };
}

/** What coreutils says the label is; `?` for none. */
export function labelOf(path: string): string {
  return execFileSync('ls', ['-Zd', '--', path], { encoding: 'utf8' }).split(' ')[0] ?? '';
}

/** Gives everything the label that an administrator's mkdir would have given. */
export function setLabel(label: string, ...paths: string[]): void {
  const labels = openLabelAccess();
  for (const path of paths) labels.write(path, label);
}

/** Does work as an activity of a node; its heartbeats are collected. */
export async function onNode<R>(
  work: () => Promise<R>,
  { heartbeatDetails, beats = [] }: { heartbeatDetails?: unknown; beats?: unknown[] } = {},
): Promise<R> {
  const environment = new MockActivityEnvironment(
    { heartbeatDetails },
    { logger: new DefaultLogger('ERROR') },
  );
  environment.on('heartbeat', (details: unknown) => beats.push(details));
  return await environment.run<[], R, () => Promise<R>>(work);
}
