import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MockActivityEnvironment } from '@temporalio/testing';
import { EMPTY_RECORD, type ResumeRecord } from '../../activities/image/resume-record.js';
import type { NodeActivities } from '../../activities/interfaces.js';
import type { ReservedDirectory, TransferResult } from '../../activities/types.js';
import { SOURCE_LOADER } from '../support/source-loader.js';

export const HOST = 'host-1';

export const isRoot = process.getuid?.() === 0;

/** A pool path below a fresh directory; `remove` takes all of it away. */
export async function makePool(): Promise<{ path: string; base: string; remove(): Promise<void> }> {
  const base = await mkdtemp(join(tmpdir(), 'dvflow-node-'));
  // A process under another uid must be able to come here.
  await chmod(base, 0o755);
  return {
    base,
    path: join(base, 'pool'),
    remove: () => rm(base, { recursive: true, force: true, maxRetries: 3 }),
  };
}

export type ReserveInput = Parameters<NodeActivities['reserveDirectory']>[0];

/** A reservation for the n-th DataVolume of a test. */
export function request(path: string, n: number, more: Partial<ReserveInput> = {}): ReserveInput {
  return {
    dataVolume: { namespace: 'team-a', name: `vm${n}`, uid: `dv-${n}` },
    claim: { namespace: 'team-a', name: `vm${n}`, uid: `claim-${n}` },
    pool: { path, useNamingPrefix: false },
    hostname: HOST,
    requestBytes: 1 << 20,
    foreignBytes: 0,
    workflowId: `datavolume/team-a/vm${n}/dv-${n}`,
    ...more,
  };
}

/** What the transfer leaves: a disk of `size` bytes, `data` of them written, and the record of a finished transfer. */
export async function writeDisk(
  { pool, directory, dataVolume }: ReservedDirectory,
  { size, data = 0, owner }: { size: number; data?: number; owner?: { uid: number; gid: number } },
): Promise<string> {
  const path = join(pool, directory, 'disk.img');
  await writeFile(path, Buffer.alloc(data, 1));
  await truncate(path, size);
  await chmod(path, 0o660);
  if (owner) await chown(path, owner.uid, owner.gid);
  const record: ResumeRecord = { ...EMPTY_RECORD, fence: 1, result: transferred(size) };
  await writeFile(join(pool, '.dvflow', dataVolume.uid, 'record.json'), JSON.stringify(record));
  return path;
}

export const transferred = (diskBytes: number): TransferResult => ({
  virtualSize: diskBytes,
  diskBytes,
  bytesTransferred: diskBytes,
  bytesWritten: diskBytes,
  resumedFrom: 0,
  format: 'raw',
});

/** Every path under the pool, sorted, without its lock and what tells it from others. */
export async function treeOf(path: string): Promise<readonly string[]> {
  const entries = await readdir(path, { recursive: true });
  return entries.filter((entry) => !['.dvflow/lock', '.dvflow/.identity.json'].includes(entry)).sort();
}

/** Mounts on `path` as `mount` is told by `args`, until the end of the block; `undefined` where this user may not. */
export function tryMount(path: string, args: readonly string[]): Disposable | undefined {
  if (!isRoot) return undefined;
  try {
    execFileSync('mount', [...args, path], { stdio: 'ignore' });
  } catch {
    return undefined;
  }
  return { [Symbol.dispose]: () => execFileSync('umount', [path]) };
}

/** Does `work` as an activity of this run of a workflow. */
export async function inRun<T>(runId: string, work: () => Promise<T>): Promise<T> {
  const environment = new MockActivityEnvironment({ workflowExecution: { workflowId: 'workflow', runId } });
  return await environment.run<[], T, () => Promise<T>>(work);
}

/** A pool in which nothing is reserved. */
export const EMPTY = ['.dvflow', '.dvflow/promises'];

export interface ChildTask {
  readonly call: 'reserve' | 'remove';
  readonly inputs: readonly unknown[];
  readonly transferUser?: { uid: number; gid: number };
  readonly stateDirectory?: string;
}

/** Runs activities in a process of their own; `kill` ends it by SIGKILL after so many ms. */
export async function inProcess(
  task: ChildTask,
  { uid, killAfterMs }: { uid?: number; killAfterMs?: number } = {},
): Promise<readonly ReservedDirectory[]> {
  const child = spawn(
    process.execPath,
    [...SOURCE_LOADER, fileURLToPath(new URL('child.ts', import.meta.url)), JSON.stringify(task)],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      cwd: fileURLToPath(new URL('../..', import.meta.url)),
      ...(uid === undefined ? {} : { uid, gid: uid, env: { ...process.env, HOME: '/tmp', TMPDIR: `/tmp` } }),
    },
  );
  let out = '';
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString();
    // The child says `ready` once its code is loaded: killing counts from there.
    if (killAfterMs !== undefined && out.startsWith('ready'))
      setTimeout(() => child.kill('SIGKILL'), killAfterMs);
  });
  await once(child, 'close');
  const [, json] = out.split('\n');
  return json ? (JSON.parse(json) as ReservedDirectory[]) : [];
}
