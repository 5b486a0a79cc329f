/** Pools of this node that share a file system: each keeps books of its own, and what one has promised is no room for another. */
import type { FileHandle } from 'node:fs/promises';
import { plainPath } from '../without-end.js';
import { findPool, type Pool } from './pool.js';
import { knownPools, realPathOf, type KnownPool, type PoolContext } from './pool-memory.js';
import { mountOf, readMounts } from './preparation/os-partition.js';
import { warn } from './warn.js';

/**
 * What `count` finds in the other known pools on the file system of this one, added up; of one that promises more than it has, the part
 * that is to be there. Mounts are compared, not the paths looked at: a pool that does not answer must hold up no other. A neighbour's lock is not taken, since two that wait for each other's would never end;
 * what both promise in the same moment can be promised twice.
 */
export async function sumOfNeighbours(
  pool: Pick<Pool, 'path' | 'root'> & Partial<Pick<Pool, 'books'>>,
  context: PoolContext,
  count: (neighbour: Pool) => Promise<number>,
): Promise<number> {
  const others = (await knownPools(context.memory)).filter(({ path }) => path !== plainPath(pool.path));
  if (others.length === 0) return 0;
  const mounts = await readMounts();
  const deviceOf = (path: string): string | undefined => mountOf(path, mounts)?.device;
  const own = deviceOf(await realPathOf(pool.root));
  const near = others.filter(({ path, real }) => deviceOf(real ?? path) === own);
  // one pool may be known by several paths
  const counted = new Set([pool.books && (await numberOf(pool.books))]);
  async function bytesOf({ path, overcommit = 1 }: KnownPool): Promise<number> {
    // not mounted, or not readable: what it holds is not known to be here
    await using neighbour = await findPool(path, context).catch(() => undefined);
    if (!neighbour) return 0;
    const number = await numberOf(neighbour.books);
    if (counted.has(number)) return 0;
    counted.add(number);
    return Math.ceil((await count(neighbour)) / Math.max(1, overcommit));
  }
  const bytes = near.map((pool) =>
    bytesOf(pool).catch((error: unknown) => {
      warn('pool on the same file system cannot be counted', { pool: pool.path, error });
      return 0;
    }),
  );
  return (await Promise.all(bytes)).reduce((sum, some) => sum + some, 0);
}

async function numberOf(books: FileHandle): Promise<string> {
  const { dev, ino } = await books.stat();
  return `${dev}:${ino}`;
}
