/** Bodies of the data port's answers: a bounded part of them is in memory, and what went wrong is told behind them. */
import type { ServerResponse } from 'node:http';
import { answerFailure, describeFailure } from '../../data-port/answers.js';
import { createByteBudget } from './byte-budget.js';

/** Bytes that are read at once. */
export const PIECE = 1024 * 1024;
/** All volumes that this worker serves share it: with it the worker stays below what it may use, however many read. */
export const budget = createByteBudget(64 * PIECE);
/** A reader that takes nothing for so long is gone, in ms. */
const STALL_MS = 60_000;

/** Names of what comes behind a body. */
export const TRAILERS = 'content-digest, dvflow-state, dvflow-failure';

/** Resolves once the bytes have left this process, and their memory can be used again. @throws the signal's reason */
export async function sendPiece(
  response: ServerResponse,
  bytes: Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const stalled = setTimeout(() => response.destroy(), STALL_MS);
  const leave = (): void => reject(signal.reason as Error);
  signal.addEventListener('abort', leave, { once: true });
  response.write(bytes, (error) => (error ? reject(error) : resolve()));
  try {
    await promise;
  } finally {
    clearTimeout(stalled);
    signal.removeEventListener('abort', leave);
  }
}

/** Answers with a failure; behind a body that has begun it comes where the digest would be. */
export function tellFailure(response: ServerResponse, error: unknown, status?: number): void {
  const failure = describeFailure(error);
  if (!response.headersSent) return answerFailure(response, failure, status);
  response.addTrailers({ 'dvflow-failure': Buffer.from(JSON.stringify(failure)).toString('base64') });
  response.end();
}
