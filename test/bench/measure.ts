import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Image } from './images.js';
import { readConversion, type Method } from './methods.js';
import { run } from './processes.js';
import { ticksOf } from '../support/process-facts.js';
import { childrenOf } from './process-tree.js';
import type { Server } from './server.js';
import type { Workspace } from './workspace.js';

/** What the engine says of one conversion, as `dvflow convert --json` prints it. Sizes in bytes. */
export interface Conversion {
  readonly virtualSize: number;
  readonly bytesTransferred: number;
  readonly bytesWritten: number;
  readonly plan: unknown;
  readonly scratchBytes: number;
  readonly seconds: number;
  readonly stats: { readonly peakRssBytes: number; readonly maxLoopDelayMs: number };
}

/** One run of one method. */
export interface Sample {
  /** From the first process to the end of the last, `fsync` included. */
  readonly wallSeconds: number;
  /** CPU time of the whole process tree, without the server. */
  readonly userSeconds: number;
  readonly systemSeconds: number;
  /** Of the largest process of the tree. */
  readonly maxRssBytes: number;
  /** Blocks of the target, in bytes; 0 without one. */
  readonly targetBytes: number;
  /** CPU time of everything else on the machine but the server, over the wall time: in cores, kernel threads included. */
  readonly otherCores: number;
  /** What the engine said, where it is the method. */
  readonly conversion?: Conversion;
}

/** What a method works on. */
export interface Job {
  readonly image: Image;
  /** Image of the same disk, which a result is compared with. */
  readonly disk: Pick<Image, 'file' | 'format'>;
  readonly server: Server;
  readonly workspace: Workspace;
  /** More variables of the method. */
  readonly env?: Readonly<Record<string, string>>;
}

/** How a method is run. */
export interface MeasureOptions {
  /** Whether it is the engine, whose JSON is then read. */
  readonly ours?: boolean;
  /** Told the process at the root of the method's tree. */
  readonly onStart?: (pid: number) => void;
}

/** Longest that a method may take, in ms. */
const TIMEOUT_MS = 20 * 60_000;

const BUNDLED = new URL('../../lib/cli/bundled/', import.meta.url);
const DVFLOW = fileURLToPath(new URL('main.js', BUNDLED));

/** The program that moves a node worker's bytes, as images run it. */
export const CHILD = fileURLToPath(new URL('child.js', BUNDLED));

interface Measured extends Pick<Sample, 'wallSeconds' | 'userSeconds' | 'systemSeconds' | 'maxRssBytes'> {
  /** Whether a process was left running. */
  readonly left: number;
}

/** Paths of one run on the file system under test. */
export function placesOf({ workspace: { directory } }: Pick<Job, 'workspace'>) {
  return {
    target: join(directory, 'target.img'),
    scratch: join(directory, 'scratch.img'),
    scratchDirectory: join(directory, 'scratch'),
    conversion: join(directory, 'conversion.json'),
    measured: join(directory, 'measured.json'),
  };
}

/** Variables of the methods' lines; `methods.ts` says what each is. */
export function variablesOf(job: Job): Readonly<Record<string, string>> {
  const { image, server, workspace, env } = job;
  const places = placesOf(job);
  return {
    URL: `http://${server.host}:${server.port}/${image.path}`,
    URL_PATH: image.path,
    PORT: String(server.port),
    IMAGE: image.file,
    FORMAT: image.format,
    STREAM_SIZE: String(image.streamBytes),
    TARGET: places.target,
    SCRATCH: places.scratch,
    SCRATCH_DIRECTORY: places.scratchDirectory,
    CONVERSION: places.conversion,
    PROGRAMS: workspace.programs,
    NODE: process.execPath,
    DVFLOW,
    ...env,
  };
}

/**
 * Runs a method once, from the same state each time: no target and no scratch, nothing of the method before still to be written
 * back, the image in the page cache.
 */
export async function measure(
  method: Method,
  job: Job,
  { ours = false, onStart }: MeasureOptions = {},
): Promise<Sample> {
  const places = placesOf(job);
  await prepare(job);
  const before = busySeconds(job.server.pid);
  await run(
    join(job.workspace.programs, 'measure'),
    [places.measured, 'bash', '-euo', 'pipefail', '-c', method.script],
    { env: variablesOf(job), timeoutMs: TIMEOUT_MS, ...(onStart ? { onStart } : {}) },
  );
  const busy = busySeconds(job.server.pid) - before;
  const { left, ...measured } = JSON.parse(readFileSync(places.measured, 'utf8')) as Measured;
  if (left !== 0) throw new Error(`${method.title} left a process running`);
  const own = measured.userSeconds + measured.systemSeconds;
  return {
    ...measured,
    targetBytes: existsSync(places.target) ? statSync(places.target).blocks * 512 : 0,
    otherCores: Math.max(0, busy - own) / measured.wallSeconds,
    ...(ours ? { conversion: readConversion(readFileSync(places.conversion, 'utf8')) } : {}),
  };
}

/** Fails unless the target of the method's last run holds what it must. */
export async function verify(method: Method, job: Job): Promise<void> {
  if (method.result === 'none') return;
  const format = method.result === 'as-served' ? job.image.format : 'raw';
  const { target } = placesOf(job);
  try {
    await run('qemu-img', ['compare', '-f', job.disk.format, '-F', format, job.disk.file, target]);
  } catch (error) {
    throw new Error(`wrong result of ${method.title}`, { cause: error });
  }
}

/** Removes what a run has left, its bytes included, and reads the image once. */
export async function prepare(job: Job): Promise<void> {
  const { target, scratch, scratchDirectory, conversion } = placesOf(job);
  for (const path of [target, scratch, scratchDirectory, conversion])
    rmSync(path, { recursive: true, force: true });
  mkdirSync(scratchDirectory);
  await run('sync', []);
  await readThrough(job.image.file);
}

async function readThrough(file: string): Promise<void> {
  const handle = await open(file);
  try {
    const buffer = Buffer.alloc(4 * 1024 * 1024);
    while ((await handle.read(buffer, 0, buffer.length)).bytesRead > 0);
  } finally {
    await handle.close();
  }
}

/** CPU time in seconds that this machine has spent on anything but the server since it started (100 ticks a second). */
function busySeconds(server: number): number {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n');
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = line
    .trim()
    .split(/\s+/)
    .slice(1)
    .map(Number);
  const own = [server, ...childrenOf(server)].reduce((sum, pid) => sum + ticksOf(pid).own, 0);
  return (user + nice + system + irq + softirq - own) / 100;
}

/** Wall times of runs, in seconds. */
export function wallsOf(samples: readonly Sample[] = []): readonly number[] {
  return samples.map(({ wallSeconds }) => wallSeconds);
}
