import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { transientFailure } from '../../failures.js';
import type { ChecksumAlgorithm } from '../source/checksum.js';
import type { HashAnswer, HashOrder, HashThreadData } from './hash-protocol.js';

/** Bytes in flight to the thread: enough to keep it busy between two turns of the loop. */
const SLOT = { bytes: 1024 * 1024, count: 8 };
const THREAD_HEAP = { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 1 };

/** A digest that is calculated beside the work, on a thread of its own. */
export interface Hasher {
  /** Adds bytes; resolves when they may change again, and waits while the thread is behind. */
  update(bytes: Buffer): Promise<void>;
  /** The digest of all bytes, in hex. */
  digest(): Promise<string>;
  close(): Promise<void>;
}

/** Starts the thread of one digest. */
export function createHasher(algorithm: ChecksumAlgorithm): Hasher {
  const memory = new SharedArrayBuffer(SLOT.bytes * SLOT.count);
  const free = Array.from({ length: SLOT.count }, (_, index) => index);
  const waiting: PromiseWithResolvers<number>[] = [];
  const digest = Promise.withResolvers<string>();
  digest.promise.catch(() => undefined);
  let failure: Error | undefined;
  const data: HashThreadData = { memory, slotBytes: SLOT.bytes, algorithm };
  const path = new URL(`./hash-thread${extname(import.meta.url)}`, import.meta.url);
  const worker = new Worker(path, { workerData: data, resourceLimits: THREAD_HEAP });
  worker.on('message', (answer: HashAnswer) => {
    if ('digest' in answer) return digest.resolve(answer.digest);
    const next = waiting.shift();
    if (next) next.resolve(answer.slot);
    else free.push(answer.slot);
  });
  const fail = (): void => {
    failure ??= transientFailure('NodeUnavailable', 'the hashing thread ended before its work was done');
    for (const { reject } of waiting.splice(0)) reject(failure);
    digest.reject(failure);
  };
  worker.on('error', fail).on('exit', fail);
  worker.unref();

  /** The thread keeps the process from ending while somebody waits for it, and at no other time. */
  async function answered<Answer>(answer: Promise<Answer>): Promise<Answer> {
    worker.ref();
    try {
      return await answer;
    } finally {
      worker.unref();
    }
  }

  async function slot(): Promise<number> {
    if (failure) throw failure;
    const index = free.pop();
    if (index !== undefined) return index;
    const next = Promise.withResolvers<number>();
    waiting.push(next);
    return await answered(next.promise);
  }

  async function update(bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length; at += SLOT.bytes) {
      const piece = bytes.subarray(at, at + SLOT.bytes);
      const index = await slot();
      piece.copy(new Uint8Array(memory, index * SLOT.bytes, piece.length));
      worker.postMessage({ slot: index, bytes: piece.length } satisfies HashOrder);
    }
  }
  return {
    update,
    async digest() {
      worker.postMessage({ digest: true } satisfies HashOrder);
      return await answered(digest.promise);
    },
    close: async () => void (await worker.terminate()),
  };
}
