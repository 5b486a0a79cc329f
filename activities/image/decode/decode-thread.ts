/** The program of a decoding thread: clusters from shared memory into shared memory, so that the event loop stays free. */
import { parentPort, workerData } from 'node:worker_threads';
import { createOrderDecoder } from './decode-order.js';
import type { DecodeMessage, DecodeReport, DecodeThreadData } from './decode-protocol.js';

const { stop, ...data } = workerData as DecodeThreadData & { readonly stop: Int32Array };
const isStopped = (): boolean => Atomics.load(stop, 0) !== 0;
const decode = isStopped() ? undefined : createOrderDecoder(data, isStopped);

parentPort?.on('message', (message: DecodeMessage) => {
  // in JavaScript, and so not inside koffi; closing the port would wait for whatever `NODE_OPTIONS` had the thread load
  if (!message || !decode) process.exit(0);
  const { id, entries } = message;
  const failed = decode(entries);
  parentPort?.postMessage({ id, ...(failed ? { failed } : {}) } satisfies DecodeReport);
});
