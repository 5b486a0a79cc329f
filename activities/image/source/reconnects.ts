import { setTimeout as sleep } from 'node:timers/promises';
import { ApplicationFailure } from '../../failures.js';
import type { Session } from './session.js';

/** Longest pause between two tries; a server that asks for a longer one before a byte was delivered ends the attempt instead. */
const LONGEST_PAUSE_MS = 30_000;
/** The same once bytes were delivered, as where a server's quota is spent: an attempt that ends may have to read them again. */
const LONGEST_QUOTA_MS = 300_000;

/** The patience of one reader. */
export interface Reconnects {
  /** Waits before the next try, or throws the error when it is final or when the tries are spent. */
  pause(error: unknown): Promise<void>;
  /** A new byte came: the next failure is a first one again. */
  progressed(): void;
}

/** Exponential back-off with jitter, so that a thousand imports do not come back to a restarted server in one moment. */
export function createReconnects(session: Session): Reconnects {
  const { signal, maxReconnects, backoffMs, display, notice, progress } = session;
  let tries = 0;

  async function pause(error: unknown): Promise<void> {
    if (!isTransient(error) || tries >= maxReconnects) throw error;
    tries += 1;
    const asked = typeof error.nextRetryDelay === 'number' ? error.nextRetryDelay : 0;
    if (asked > (progress.delivered ? LONGEST_QUOTA_MS : LONGEST_PAUSE_MS)) throw error;
    notice(`reconnecting: ${error.message.replace(`GET ${display}: `, '')} (attempt ${tries + 1})`);
    const backoff = Math.min(backoffMs * 2 ** (tries - 1), LONGEST_PAUSE_MS);
    await pauseFor(Math.max(backoff * (0.5 + Math.random() / 2), asked), signal);
  }

  return {
    pause,
    progressed() {
      progress.delivered = true;
      tries = 0;
    },
  };
}

/** Does what has nothing in hand yet again, with the patience that every later request has. */
export async function persistently<T>(session: Session, work: () => Promise<T>): Promise<T> {
  const reconnects = createReconnects(session);
  for (;;) {
    try {
      return await work();
    } catch (error) {
      await reconnects.pause(error);
    }
  }
}

function isTransient(error: unknown): error is ApplicationFailure {
  return error instanceof ApplicationFailure && error.type === 'SourceUnavailable';
}

async function pauseFor(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => undefined);
  signal.throwIfAborted();
}
