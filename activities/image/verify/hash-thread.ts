/** The program of a hashing thread: digests go over shared memory in the order in which they are told to. */
import { createHash } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import type { HashOrder, HashThreadData } from './hash-protocol.js';

const { memory, slotBytes, algorithm } = workerData as HashThreadData;
const hash = createHash(algorithm);

parentPort?.on('message', (order: HashOrder) => {
  if ('digest' in order) return parentPort?.postMessage({ digest: hash.digest('hex') });
  hash.update(new Uint8Array(memory, order.slot * slotBytes, order.bytes));
  parentPort?.postMessage({ slot: order.slot });
});
