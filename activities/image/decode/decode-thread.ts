/** The program of a decoding thread: clusters from shared memory into shared memory, so that the event loop stays free. */
import { parentPort, workerData } from 'node:worker_threads';
import { createOrderDecoder } from './decode-order.js';
import type { DecodeOrder, DecodeReport, DecodeThreadData } from './decode-protocol.js';

const decode = createOrderDecoder(workerData as DecodeThreadData);

parentPort?.on('message', ({ id, entries }: DecodeOrder) => {
  const failed = decode(entries);
  parentPort?.postMessage({ id, ...(failed ? { failed } : {}) } satisfies DecodeReport);
});
