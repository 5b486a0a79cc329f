import type { Duplex } from 'node:stream';
import { transientFailure } from '../../../failures.js';
import { serveNbd, type NbdConnection, type NbdExport } from '../../nbd/server.js';
import { createSegmentPool } from '../../pool.js';
import type { ReadOutcome, Sink } from '../../progress.js';
import { findSandbox, type Sandbox, type Sandboxed } from '../../sandbox/sandbox.js';
import type { ImageSource, Stretch } from '../../source/types.js';
import { createStage, type Stage } from '../../stage.js';
import { exportSource, exportTarget } from './exports.js';
import { convertArguments, explainEnd } from './qemu-img.js';
import type { ForeignImage } from './types.js';

/** 8 segments of 4 MiB: three gather, the others are on their way to the disk. */
const POOL = { segmentBytes: 4 * 1024 * 1024, count: 8 };
/** Resume begins on a multiple of it. */
const ALIGNMENT = 64 * 1024;
/** A process that asks for nothing for so long, waits for nothing and takes no CPU time, works on nothing. */
const STALL_MS = 60_000;
/**
 * QEMU passes over a hole without asking for anything, in memory: 1 TiB takes it 110 s of CPU time in a VHDX, 10 s in a VMDK. One
 * that takes so much more than this for the whole disk goes round in circles.
 */
const HOLE = { leastSeconds: 60, bytesPerSecond: 1024 ** 3 };
/** QEMU needs 300 MiB of addresses, most of them never touched, and tables and buffers of what the header checks let through. */
const MEMORY_BYTES = 1024 * 1024 * 1024;
/** Decoding at 4 MiB a second would be slow. */
const CPU = { leastSeconds: 600, bytesPerSecond: 4 * 1024 * 1024 };

/** An image to be copied by `qemu-img`. */
export interface ForeignCopy {
  readonly image: ForeignImage;
  /** Of the image file; with ranges. */
  readonly source: ImageSource;
  readonly fileBytes: number;
  /** @default 60_000 ms */
  readonly stallMs?: number;
  /** CPU time that `qemu-img` may take without asking for anything. @default 60 s, and one for each GiB of the disk */
  readonly silentSeconds?: number;
  /** @default what {@link findSandbox} finds */
  readonly sandbox?: Sandbox;
}

/**
 * Copies the disk of an image that `qemu-img` decodes. It runs in a sandbox and has two sockets: one to the image file, which is
 * read by ranges as it asks, and one to the disk, which is written through a stage as everything else; so it opens no file, and
 * resumes at a guest offset, below which everything is written. Where the image says beforehand what of it is empty, that is passed
 * over: one `qemu-img` after the other copies what lies between.
 * @throws the source's failure or the target's, whatever `qemu-img` makes of it; {@link FailureType} `ImageInvalid` where it
 * cannot read the image; `NodeUnavailable` where it, or a sandbox, is missing
 */
export async function copyForeign(copy: ForeignCopy, sink: Sink): Promise<ReadOutcome> {
  const { virtualSize } = copy.image;
  if (sink.completed >= virtualSize) return { virtualSize };
  const start = Math.floor(sink.completed / ALIGNMENT) * ALIGNMENT;
  const sandbox = copy.sandbox ?? (await findSandbox());
  const stage = createStage(createSegmentPool(POOL), sink.writer, sink);
  // with what is cached of it: each qemu-img begins with the same tables
  const file = exportSource(copy.source, { fileBytes: copy.fileBytes, endless: copy.image.endless });
  try {
    for (const stretch of await stretchesFrom(start, copy.image)) {
      await sink.checkpoint(stretch.start, () => stage.flush());
      await runConvert(copy, { sandbox, file, stage, sink, stretch });
    }
    await stage.flush();
    return { virtualSize };
  } finally {
    await stage.close();
  }
}

/** What there is to be copied of the disk at or after `start`. */
async function stretchesFrom(
  start: number,
  { virtualSize, stretches }: ForeignImage,
): Promise<readonly Stretch[]> {
  return ((await stretches?.()) ?? [{ start: 0, end: virtualSize }])
    .filter(({ end }) => end > start)
    .map((stretch) => ({ ...stretch, start: Math.max(start, stretch.start) }));
}

interface Run {
  readonly sandbox: Sandbox;
  /** The image file. */
  readonly file: NbdExport;
  readonly stage: Stage;
  readonly sink: Sink;
  readonly stretch: Stretch;
}

/** Copies one stretch of the disk. */
async function runConvert(copy: ForeignCopy, { sandbox, file, stage, sink, stretch }: Run): Promise<void> {
  const { image, stallMs = STALL_MS } = copy;
  sink.signal.throwIfAborted();
  const program = sandbox.run({
    file: 'qemu-img',
    args: convertArguments(image, stretch),
    sockets: 2,
    memoryBytes: MEMORY_BYTES,
    cpuSeconds: CPU.leastSeconds + Math.ceil(image.virtualSize / CPU.bytesPerSecond),
  });
  const [toSource, toTarget] = program.sockets;
  const { silentSeconds = HOLE.leastSeconds + (stretch.end - stretch.start) / HOLE.bytesPerSecond } = copy;
  const watch = watchOver(program, sink.signal, { stallMs, silentSeconds });
  const connections = [
    serve(toSource, file, watch.alive),
    serve(
      toTarget,
      exportTarget(stage, sink, { start: stretch.start, virtualSize: image.virtualSize }),
      watch.alive,
    ),
  ];
  watch.begin(connections);
  try {
    const end = await program.ended;
    for (const connection of connections) connection.close();
    await Promise.all(connections.map((connection) => connection.ended));
    sink.signal.throwIfAborted();
    for (const { failure } of connections) if (failure) throw failure.error;
    if (watch.stalled) throw stalled(stallMs);
    const requests = connections.reduce((sum, connection) => sum + connection.requests, 0);
    if (end.code !== 0) throw explainEnd(end, image.format, requests);
  } finally {
    watch.stop();
  }
}

function serve(socket: Duplex | undefined, ...rest: [NbdExport, () => void]): NbdConnection {
  if (!socket) throw transientFailure('NodeUnavailable', 'qemu-img cannot be started: no sockets for it');
  return serveNbd(socket, ...rest);
}

function stalled(stallMs: number): Error {
  return transientFailure(
    'NodeUnavailable',
    `qemu-img did nothing for ${Math.round(stallMs / 1000)} s and was ended`,
  );
}

interface Watch {
  /** Call whenever it asks for something, or gets it. */
  readonly alive: () => void;
  readonly begin: (connections: readonly NbdConnection[]) => void;
  readonly stalled: boolean;
  readonly stop: () => void;
}

interface Patience {
  /** How long it may do nothing at all, in ms. */
  readonly stallMs: number;
  /** CPU time that it may take without asking for anything. */
  readonly silentSeconds: number;
}

/**
 * Ends the program when it is told to stop, when one of its exports has failed, and when it does nothing though nothing keeps it.
 * One that works without asking for anything is alive, but not for ever.
 */
function watchOver(program: Sandboxed, signal: AbortSignal, { stallMs, silentSeconds }: Patience): Watch {
  let last = performance.now();
  let stalled = false;
  let timer: NodeJS.Timeout | undefined;
  let asked = true;
  const cpu = { atRequest: 0, now: 0 };
  const abort = (): void => program.kill();
  signal.addEventListener('abort', abort, { once: true });

  /** Since it was looked at last. */
  function wasAlive(): boolean {
    const [before, hasAsked] = [cpu.now, asked];
    asked = false;
    cpu.now = program.cpuSeconds();
    if (hasAsked) cpu.atRequest = cpu.now;
    return hasAsked || (cpu.now > before && cpu.now - cpu.atRequest < silentSeconds);
  }
  return {
    alive: () => void (asked = true),
    begin(connections) {
      timer = setInterval(() => {
        if (connections.some(({ failure }) => failure)) return program.kill();
        if (connections.some(({ working }) => working > 0)) asked = true;
        if (wasAlive()) last = performance.now();
        if (performance.now() - last < stallMs) return;
        stalled = true;
        program.kill();
      }, stallMs / 20);
    },
    get stalled() {
      return stalled;
    },
    stop() {
      clearInterval(timer);
      signal.removeEventListener('abort', abort);
      program.kill();
    },
  };
}
