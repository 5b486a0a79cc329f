import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { transientFailure } from '../failures.js';
import { childPath } from './directories.js';
import { flock } from './flock.js';
import type { Pool } from './pool.js';

/** Longest wait for the pool's lock, in seconds: nothing long is done under it, but disks may be slow and those who wait many. */
const LOCK_WAIT_S = 120;

/** Last holder of each pool's lock in this process: waiting here costs nothing, each waiting `flock` is a process. */
const queues = new Map<string, Promise<unknown>>();

/**
 * Does `work` while nobody else, in this process or another, works on the books of this pool. The lock belongs to our open file
 * description, so it ends with the process however that dies.
 * @throws {@link FailureType} `NodeUnavailable` when the lock is not free in time
 */
export async function withPoolLock<T>(pool: Pool, work: () => Promise<T>): Promise<T> {
  return await inTurn(pool, () => locked(pool, LOCK_WAIT_S, work));
}

/** {@link withPoolLock} where the lock is free; `undefined`, without `work`, where it is not. */
export async function ifPoolIsFree<T>(pool: Pool, work: () => Promise<T>): Promise<T | undefined> {
  if (queues.has(pool.path)) return undefined;
  let begun = false;
  const begin = async (): Promise<T> => {
    begun = true;
    return await work();
  };
  return await inTurn(pool, () => locked(pool, 0, begin)).catch((error: unknown) => {
    if (begun) throw error;
    return undefined;
  });
}

async function inTurn<T>(pool: Pool, work: () => Promise<T>): Promise<T> {
  const turn = (queues.get(pool.path) ?? Promise.resolve()).then(work);
  const settled = turn.catch(() => undefined);
  queues.set(pool.path, settled);
  try {
    return await turn;
  } finally {
    if (queues.get(pool.path) === settled) queues.delete(pool.path);
  }
}

async function locked<T>(pool: Pool, waitSeconds: number, work: () => Promise<T>): Promise<T> {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
  await using file = await open(childPath(pool.books, 'lock'), flags, 0o600);
  const { code, said } = await flock(file.fd, waitSeconds);
  if (code !== 0) {
    const reason = said || `not free within ${waitSeconds} s`;
    throw transientFailure('NodeUnavailable', `lock of pool ${pool.path}: ${reason}`);
  }
  return await work();
}
