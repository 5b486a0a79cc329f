import type { Logger } from '@temporalio/common';

/** First and longest pause before a key that failed is tried again, in ms. */
const RETRY_MS = { first: 500, longest: 60_000 } as const;

/** Keys at once. */
const CONCURRENCY = 8;

/** Work to be done, by key: a key that waits is there once, and one that is being worked on runs again afterwards. */
export interface KeyQueue {
  add(key: string): void;
  /** Adds the key after so many ms, unless it is added sooner. */
  addAfter(key: string, ms: number): void;
  /** Takes no more keys; resolves when those under way are done. */
  stop(): Promise<void>;
}

/** Calls `handle` for each key; one that rejects is tried again with back-off and jitter, for ever. */
export function createKeyQueue(
  handle: (key: string) => Promise<void>,
  logger: Pick<Logger, 'warn'>,
): KeyQueue {
  const waiting = new Set<string>();
  const running = new Map<string, Promise<void>>();
  const timers = new Map<string, NodeJS.Timeout>();
  const failures = new Map<string, number>();
  let stopped = false;

  function add(key: string): void {
    if (stopped) return;
    clearTimeout(timers.get(key));
    timers.delete(key);
    waiting.add(key);
    pump();
  }

  function addAfter(key: string, ms: number): void {
    if (stopped || waiting.has(key) || timers.has(key)) return;
    timers.set(
      key,
      setTimeout(() => add(key), ms),
    );
  }

  function pump(): void {
    for (const key of waiting) {
      if (stopped || running.size >= CONCURRENCY) return;
      if (running.has(key)) continue;
      waiting.delete(key);
      running.set(key, work(key));
    }
  }

  async function work(key: string): Promise<void> {
    try {
      await handle(key);
      failures.delete(key);
    } catch (error) {
      const count = (failures.get(key) ?? 0) + 1;
      failures.set(key, count);
      const retryInMs = backOff(count);
      if (!stopped) logger.warn('will be tried again', { key, error, retryInMs });
      addAfter(key, retryInMs);
    } finally {
      running.delete(key);
      pump();
    }
  }

  async function stop(): Promise<void> {
    stopped = true;
    waiting.clear();
    for (const timer of timers.values()) clearTimeout(timer);
    timers.clear();
    await Promise.all(running.values());
  }

  return { add, addAfter, stop };
}

/** Doubles with each failure in a row; spread, so that replicas and keys do not return all at once. */
export function backOff(failures: number, random: () => number = Math.random): number {
  const most = Math.min(RETRY_MS.longest, RETRY_MS.first * 2 ** (failures - 1));
  return Math.round(most * (0.5 + random() / 2));
}
