/** Readers of an image that are killed at random points, and what each of them fetched for nothing. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createRecordStore, type Durable } from '../../../activities/image/resume-record.js';
import { createRandom, type Random } from '../../support/random.js';
import { SOURCE_LOADER } from '../../support/source-loader.js';
import type { ConvertOrder, HoldingPoint } from './convert-process.js';
import type { KilledWay } from './killed-ways.js';
import { MIB, sha256 } from './images.js';
import { makeNoisy } from './noisy.js';
import { serveFile, type FileServer } from './serve.js';

const PROGRAM = fileURLToPath(new URL('./convert-process.ts', import.meta.url));

/** The 8 windows of 8 MiB, or the stage and the 6 pieces ahead of a stream, which are less. */
const POOL_BYTES = 64 * MIB;
/** The first MiB is asked for by each attempt, and so are the tables. */
const PROBE_BYTES = 2 * MIB;
/** What the server has sent and nobody has read: on each of 2 connections 6 MiB to receive and 4 MiB to send, the kernel's most. */
const SOCKET_BYTES = 2 * 10 * MIB;
/** Offsets of the disk are taken for offsets of the file by their proportion, which holds only on average. */
const UNEVEN = 0.06;

/** How often, and on how large a disk. */
export interface KillOptions {
  readonly kills: number;
  readonly mebibytes: number;
  /** Fetched bytes between two records. */
  readonly everyBytes: number;
  readonly seed: number;
  /** Where image, target, record and scratch space are. */
  readonly directory: string;
}

/** What the kills came to, in bytes. */
export interface KillReport {
  readonly kills: number;
  /** Size of the image file. */
  readonly size: number;
  /** Times that the whole disk was made. */
  readonly rounds: number;
  readonly sent: number;
  /** Fetched by each killed attempt beyond what it made durable; of a chain that is read from its start each time, what it went over again included. */
  readonly lost: readonly number[];
}

/** One way, set up: an image behind a server, and a target that may hold something of it already. */
export interface Victim extends AsyncDisposable {
  readonly size: number;
  /** Bytes of the raw disk, and of the file inside the containers. */
  readonly diskBytes: number;
  /** Starts a reader; it is killed once the server has sent it so many bytes, or where it holds. */
  attempt(kill: { readonly afterBytes?: number; readonly hold?: HoldingPoint }): Promise<Attempt>;
  durable(): Promise<Durable | undefined>;
  /** File offset up to which this record has the image done. */
  fileOffset(durable: Durable | undefined): number;
  /** The disk is right, and nothing is left but the record. */
  assertDone(): Promise<void>;
  /** Forgets target and record. */
  begin(): void;
}

/** How a reader ended. */
export interface Attempt {
  readonly killed: boolean;
  /** Bytes that the server sent to it. */
  readonly sent: number;
}

/** Makes disk, image and server of a way. */
export async function prepare(way: KilledWay, options: KillOptions, random: Random): Promise<Victim> {
  const { directory, everyBytes } = options;
  mkdirSync(directory, { recursive: true });
  const [raw, image, target, state, scratch] = ['raw', 'image', 'target', 'state', 'scratch'].map(
    (name) => `${directory}/${name}`,
  ) as [string, string, string, string, string];
  makeNoisy(raw, options.mebibytes, random);
  way.make(raw, image);
  const innerBytes = existsSync(`${image}.inner`) ? statSync(`${image}.inner`).size : undefined;
  for (const made of [`${image}.inner`, `${image}.raw`]) rmSync(made, { force: true });
  const size = statSync(image).size;
  const diskBytes = statSync(raw).size;
  const checksum = way.verified ? { checksum: `sha256:${sha256(image)}` } : {};
  let watch = (): void => undefined;
  const server = await serveFile(image, {
    ranges: way.source.ranges !== false,
    onSent: () => watch(),
  });
  let fence = 0;
  function begin(): void {
    for (const path of [target, state, scratch]) rmSync(path, { recursive: true, force: true });
    for (const path of [state, scratch]) mkdirSync(path);
  }
  begin();
  return {
    size,
    diskBytes,
    begin,
    async attempt({ afterBytes = Infinity, hold }) {
      const order: ConvertOrder = {
        ...{ url: server.url, target, state, scratch, everyBytes, ...checksum, fence: (fence += 1) },
        ...(hold === undefined ? {} : { hold }),
      };
      return await runOrder(order, { server, afterBytes, onSent: (told) => (watch = told) });
    },
    async durable() {
      return (await createRecordStore(state).load()).durable;
    },
    fileOffset(durable) {
      if (!durable) return 0;
      const inFile = durable.format === 'qcow2' && durable.plan === 'one-pass';
      return (durable.completed / (inFile ? (innerBytes ?? size) : diskBytes)) * size;
    },
    async assertDone() {
      execFileSync('cmp', [raw, target], { stdio: 'pipe' });
      assert.ok((await createRecordStore(state).load()).result, 'the record says that it is done');
      assert.deepEqual(readdirSync(state), ['record.json']);
      assert.deepEqual(readdirSync(scratch), []);
    },
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

interface Watching {
  readonly server: FileServer;
  readonly afterBytes: number;
  /** Called with what is to be done after each sent piece. */
  readonly onSent: (watch: () => void) => void;
}

async function runOrder(order: ConvertOrder, { server, afterBytes, onSent }: Watching): Promise<Attempt> {
  const before = server.sent;
  const child = spawn(process.execPath, [...SOURCE_LOADER, PROGRAM, JSON.stringify(order)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  let complaint = '';
  const kill = (): void => void child.kill('SIGKILL');
  child.stdout.on('data', (chunk: Buffer) => {
    said += chunk.toString();
    if (said.includes('held\n')) kill();
  });
  child.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
  onSent(() => server.sent - before >= afterBytes && kill());
  if (afterBytes === 0) kill();
  // also waits for everybody who has inherited its output: nothing that it started lives longer
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  onSent(() => undefined);
  assert.ok(signal === 'SIGKILL' || code === 0, `the reader ended with ${code}: ${complaint}`);
  return { killed: signal === 'SIGKILL', sent: server.sent - before };
}

/**
 * Kills readers of one way at random points, starts the next where each has left, and judges: the disk is right at the end, and
 * each has fetched for nothing no more than memory, the time since the last record and the sockets hold. What a chain cannot
 * enter in the middle is fetched again from the start, once an attempt.
 */
export async function killRepeatedly(
  name: string,
  way: KilledWay,
  options: KillOptions,
): Promise<KillReport> {
  const random = createRandom(`${options.seed}/${name}`);
  await using victim = await prepare(way, options, random);
  return await killAll(victim, way, options, random);
}

async function killAll(
  victim: Victim,
  way: KilledWay,
  options: KillOptions,
  random: Random,
): Promise<KillReport> {
  const { size } = victim;
  const bound = boundOf(size, options.everyBytes);
  const lost: number[] = [];
  let sent = 0;
  let rounds = 0;
  for (let over = false; !over;) {
    const last = lost.length >= options.kills;
    const before = await victim.durable();
    const afterBytes = last ? Infinity : Math.ceil(random.fraction() * size);
    const attempt = await victim.attempt({ afterBytes });
    const after = await victim.durable();
    sent += attempt.sent;
    judge(attempt, { where: `kill ${lost.length + 1}`, before, after, size });
    if (attempt.killed) {
      const again = attempt.sent - (victim.fileOffset(after) - victim.fileOffset(before));
      const read = victim.fileOffset(after) - enteredAt(way, victim, before);
      lost.push(again);
      if (!way.plan.source.includes('scratch'))
        assert.ok(attempt.sent - read <= bound, `kill ${lost.length}: ${attempt.sent} sent, ${read} durable`);
      continue;
    }
    await victim.assertDone();
    rounds += 1;
    over = last;
    if (!over) victim.begin();
  }
  return { kills: lost.length, size, rounds, sent, lost };
}

interface Judged {
  readonly where: string;
  readonly before: Durable | undefined;
  readonly after: Durable | undefined;
  readonly size: number;
}

/** Nothing is fetched twice within an attempt, and nothing durable is forgotten. */
function judge({ sent }: Attempt, { where, before, after, size }: Judged): void {
  assert.ok(sent <= size + PROBE_BYTES + SOCKET_BYTES, `${where}: ${sent} bytes sent, the image has ${size}`);
  const [was, is] = [before?.completed ?? 0, after?.completed ?? 0];
  assert.ok(is >= was, `${where}, after ${sent} bytes sent: ${is} bytes are durable, it was ${was}`);
}

/** Most that a killed attempt has fetched beyond what it made durable, from where it entered on, in bytes. */
function boundOf(size: number, everyBytes: number): number {
  return POOL_BYTES + everyBytes + PROBE_BYTES + SOCKET_BYTES + UNEVEN * size;
}

/** File offset at which an attempt begins to read after that record. */
function enteredAt(way: KilledWay, victim: Victim, durable: Durable | undefined): number {
  if (way.entered) return durable?.restart?.inner ?? 0;
  return way.exact ? victim.fileOffset(durable) : 0;
}
