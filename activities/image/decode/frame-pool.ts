import { availableParallelism } from 'node:os';
import { promisify } from 'node:util';
import { transientFailure } from '../../failures.js';
import { createOrderDecoder } from './decode-order.js';
import type { DecodePool } from './decode-pool.js';
import { ENTRY_NUMBERS, type DecodeReport, type DecodeThreadData } from './decode-protocol.js';
import { openLibrary } from './native.js';
import { zstdFrame } from './zstd-frame.js';

/** What one call decodes, in bytes: its hand-over of 40 µs is nothing beside it, and all cores get their share of a window. */
const CALL_BYTES = 1024 * 1024;
/** Calls of one order that are made however few clusters each has. */
const FEW_CALLS = 16;
/** Clusters that each call of more must have on average: less is cheaper on threads of our own. */
const CLUSTERS_A_CALL = 4;
/** Calls under way a core, so that none waits for this thread to hand out the next one; and at most, as for threads. */
const CALLS_A_CORE = 2;
const MOST_CALLS = 8;

type Decompress = (
  context: unknown,
  output: Buffer,
  capacity: number,
  input: Buffer,
  length: number,
  done: (error: Error | null, result: number | bigint) => void,
) => void;

/** Clusters of an order that one call decodes: their frames follow each other, and so do their places. */
interface Run {
  /** Index of the first one in the order. */
  readonly first: number;
  readonly count: number;
  readonly input: Buffer;
  readonly output: Buffer;
  /** False for one cluster that is no single frame of its size: what it is, its own decoder says. */
  readonly framed: boolean;
}

/**
 * Decodes zstd clusters on libuv's threads, many in one call: libzstd takes frames that follow each other as one, as they lie in every
 * image that a converter wrote. So no thread of Node's has to start, which takes as long as 100 MiB do to decode. Orders of scattered
 * clusters go to `scattered`, which is made for the first of them. `undefined` where libzstd cannot be called.
 */
export function createFramePool(data: DecodeThreadData, scattered: () => DecodePool): DecodePool | undefined {
  const library = data.native === false ? undefined : openLibrary('zstd');
  if (!library) return undefined;
  const memory = Buffer.from(data.memory);
  const calls = createCalls(library);
  let one: ReturnType<typeof createOrderDecoder> | undefined;
  let others: DecodePool | undefined;

  async function decode(entries: Float64Array): Promise<DecodeReport['failed']> {
    const runs = runsOf(entries, memory);
    if (runs.length > FEW_CALLS && runs.length * CLUSTERS_A_CALL * ENTRY_NUMBERS > entries.length)
      return await (others ??= scattered()).decode(entries);
    // all have ended when one fails: nothing still writes into memory that is handed back
    const outcomes = await Promise.allSettled(runs.map((run) => decodeRun(run, entries)));
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') throw outcome.reason;
      if (outcome.value) return outcome.value;
    }
    return undefined;
  }

  /** What a call does not decode to the byte is decoded cluster by cluster: that tells which it is, and takes what is odd but right. */
  async function decodeRun(run: Run, entries: Float64Array): Promise<DecodeReport['failed']> {
    if (run.framed && (await calls.make(run)) === run.output.length) return undefined;
    one ??= createOrderDecoder(data);
    const { first, count } = run;
    const failed = one(entries.subarray(first * ENTRY_NUMBERS, (first + count) * ENTRY_NUMBERS));
    return failed && { ...failed, index: first + failed.index };
  }

  async function close(): Promise<void> {
    await Promise.all([calls.close(), others?.close()]);
  }
  return { decode, close };
}

/** Calls of libzstd, each with a context of its own; `make` resolves to the bytes that one decoded, or to zstd's error. */
function createCalls(library: NonNullable<ReturnType<typeof openLibrary>>) {
  const create = library.func('void *ZSTD_createDCtx(void)') as () => unknown;
  const free = library.func('size_t ZSTD_freeDCtx(void *)') as (context: unknown) => unknown;
  const decompress = promisify(
    library.func('size_t ZSTD_decompressDCtx(void *, void *, size_t, const void *, size_t)')
      .async as Decompress,
  );
  const most = Math.min(CALLS_A_CORE * availableParallelism(), MOST_CALLS);
  const idle: unknown[] = [];
  const waiting: (() => void)[] = [];
  const running = new Set<Promise<number | bigint>>();
  let closed = false;

  async function make({ input, output }: Run): Promise<number> {
    while (running.size >= most) await new Promise<void>((resolve) => waiting.push(resolve));
    if (closed) throw transientFailure('NodeUnavailable', 'the decoder was closed before its work was done');
    const context = idle.pop() ?? create();
    const call = decompress(context, output, output.length, input, input.length);
    running.add(call);
    try {
      return Number(await call);
    } finally {
      running.delete(call);
      idle.push(context);
      waiting.shift()?.();
    }
  }

  async function close(): Promise<void> {
    closed = true;
    await Promise.allSettled(running);
    for (const wake of waiting.splice(0)) wake();
    for (const context of idle.splice(0)) free(context);
  }
  return { make, close };
}

/** The order in runs, each cluster in one. */
function runsOf(entries: Float64Array, memory: Buffer): readonly Run[] {
  const runs: Run[] = [];
  for (let index = 0; index * ENTRY_NUMBERS < entries.length;) {
    const run = runFrom(entries, index, memory);
    runs.push(run);
    index += run.count;
  }
  return runs;
}

function runFrom(entries: Float64Array, first: number, memory: Buffer): Run {
  const start = placeOf(entries, first);
  let [inputEnd, outputEnd] = [start.input, start.output];
  let count = 0;
  for (; (first + count) * ENTRY_NUMBERS < entries.length; count += 1) {
    const { input, inputLength, output, outputLength } = placeOf(entries, first + count);
    // a frame that is longer than the cluster's own bytes, or holds another size, is no part of a run
    if (input !== inputEnd || output !== outputEnd) break;
    if (count > 0 && outputEnd + outputLength - start.output > CALL_BYTES) break;
    const frame = zstdFrame(memory.subarray(input, input + inputLength));
    if (frame?.contentBytes !== outputLength) break;
    inputEnd += frame.bytes;
    outputEnd += outputLength;
  }
  if (count === 0)
    [inputEnd, outputEnd] = [start.input + start.inputLength, start.output + start.outputLength];
  return {
    first,
    count: Math.max(1, count),
    input: memory.subarray(start.input, inputEnd),
    output: memory.subarray(start.output, outputEnd),
    framed: count > 0,
  };
}

function placeOf(entries: Float64Array, index: number) {
  const [input = 0, inputLength = 0, output = 0, outputLength = 0] = entries.subarray(index * ENTRY_NUMBERS);
  return { input, inputLength, output, outputLength };
}
