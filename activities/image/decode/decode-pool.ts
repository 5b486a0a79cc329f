import { availableParallelism } from 'node:os';
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { transientFailure } from '../../failures.js';
import { createOrderDecoder } from './decode-order.js';
import type { DecodeMessage, DecodeReport, DecodeThreadData } from './decode-protocol.js';
import { createFramePool } from './frame-pool.js';

/** More threads than this do not pay for their memory: the network and the disk are the limit by then. */
const MOST_THREADS = 4;
/** A thread's heap holds no image data. In MiB. */
const THREAD_HEAP = { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 1 };

/** Threads that decode clusters in shared memory. */
export interface DecodePool {
  /**
   * Decodes clusters, each into its place; `entries` are offsets and lengths in the pool's memory ({@link DecodeOrder}).
   * @returns the first cluster that could not be decoded, if any
   */
  decode(entries: Float64Array): Promise<DecodeReport['failed']>;
  /** Ends the threads: what they have not decoded by then is rejected. */
  close(): Promise<void>;
}

interface Thread {
  readonly worker: Worker;
  readonly waiting: Map<number, PromiseWithResolvers<DecodeReport['failed']>>;
  end(): Promise<void>;
}

/** A disk smaller than this is decoded before a thread has started. In bytes. */
const WORTH_THREADS = 64 * 1024 * 1024;

/**
 * What decodes the clusters of a disk of `diskBytes`: small disks are decoded on this thread, zstd by {@link createFramePool} where that
 * can be. Else threads do, one a core and at most {@link MOST_THREADS}. They start when there is work for them, of an image that says it
 * is compressed with zstd at once: while its first tables are fetched. (Any image says zlib.)
 */
export function createDecodePool(data: DecodeThreadData, diskBytes: number): DecodePool {
  if (diskBytes < WORTH_THREADS) return createInlinePool(data);
  const threads = (): DecodePool => createThreadPool(data);
  return (data.compression === 'zstd' ? createFramePool(data, threads) : undefined) ?? threads();
}

function createInlinePool(data: DecodeThreadData): DecodePool {
  let decode: ReturnType<typeof createOrderDecoder> | undefined;
  return {
    async decode(entries) {
      decode ??= createOrderDecoder(data);
      return decode(entries);
    },
    close: () => Promise.resolve(),
  };
}

function createThreadPool(data: DecodeThreadData): DecodePool {
  const threads = Math.min(availableParallelism(), MOST_THREADS);
  const running: Thread[] = [];
  let orders = 0;
  /** A thread that is gone answers no order: nor does the pool then. */
  let failure: Error | undefined;

  function leastBusy(): Thread {
    const idle = running.find(({ waiting }) => waiting.size === 0);
    if (idle) return idle;
    const started = running.length < threads ? start() : undefined;
    if (started) return started;
    return running.reduce((least, thread) => (thread.waiting.size < least.waiting.size ? thread : least));
  }

  /** `undefined` where the system gives no more threads (`EAGAIN`): those that run do it all. */
  function start(): Thread | undefined {
    try {
      const thread = startThread(data, (error) => (failure ??= error));
      running.push(thread);
      return thread;
    } catch (error) {
      if (running.length > 0) return undefined;
      const message = `no thread can be started to decode the image (${String((error as NodeJS.ErrnoException).code)})`;
      throw transientFailure('NodeUnavailable', message, { cause: error });
    }
  }

  if (data.compression === 'zstd') while (running.length < threads && start());

  async function decode(entries: Float64Array): Promise<DecodeReport['failed']> {
    if (failure) throw failure;
    const { worker, waiting } = leastBusy();
    const answer = Promise.withResolvers<DecodeReport['failed']>();
    const id = (orders += 1);
    waiting.set(id, answer);
    worker.postMessage({ id, entries } satisfies DecodeMessage);
    return await answer.promise;
  }

  async function close(): Promise<void> {
    await Promise.all(running.splice(0).map((thread) => thread.end()));
  }
  return { decode, close };
}

function startThread(data: DecodeThreadData, failed: (error: Error) => void): Thread {
  const waiting: Thread['waiting'] = new Map();
  const path = new URL(`./decode-thread${extname(import.meta.url)}`, import.meta.url);
  const stop = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  const worker = new Worker(path, { workerData: { ...data, stop }, resourceLimits: THREAD_HEAP });
  worker.on('message', ({ id, failed }: DecodeReport) => {
    waiting.get(id)?.resolve(failed);
    waiting.delete(id);
  });
  const fail = (): void => {
    const failure = transientFailure('NodeUnavailable', 'a decoding thread ended before its work was done');
    failed(failure);
    for (const answer of waiting.values()) answer.reject(failure);
    waiting.clear();
  };
  const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  worker.on('error', fail).on('exit', fail);

  /** Asks, and never terminates: a thread that is stopped in the middle of a call of koffi, its loading too, aborts the whole process. */
  async function end(): Promise<void> {
    fail();
    Atomics.store(stop, 0, 1);
    worker.postMessage(null satisfies DecodeMessage);
    await exited;
  }
  return { worker, waiting, end };
}
