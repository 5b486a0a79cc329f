import { asyncLocalStorage } from '@temporalio/activity';

/** Time between two heartbeats, in ms. */
const BEAT_MS = 1_000;

/** Beats while `work` lasts, which may be long: a worker that dies is noticed, and a cancel arrives, by the signal. */
export async function beating<T>(work: (signal: AbortSignal | undefined) => Promise<T>): Promise<T> {
  const context = asyncLocalStorage.getStore();
  const timer = setInterval(() => context?.heartbeat(), BEAT_MS);
  try {
    context?.heartbeat();
    return await work(context?.cancellationSignal);
  } finally {
    clearInterval(timer);
  }
}
