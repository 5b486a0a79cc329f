/** Pools of this node that share a file system: each keeps books of its own, and what one has promised is no room for another. */
import type { FileHandle } from 'node:fs/promises';
import { plainPath } from '../without-end.js';
import { findPool, type Pool } from './pool.js';
import { knownPools, type PoolContext } from './pool-memory.js';
import { mountOf, readMounts } from './preparation/os-partition.js';

/**
 * What `count` finds in the other known pools on the file system of this one, added up. Mounts are compared, not the paths looked at: a
 * pool that does not answer must hold up no other. A neighbour's lock is not taken, since two that wait for each other's would never end;
 * what both promise in the same moment can be promised twice.
 */
export async function sumOfNeighbours(
  pool: Pick<Pool, 'path'> & Partial<Pick<Pool, 'books'>>,
  context: PoolContext,
  count: (neighbour: Pool) => Promise<number>,
): Promise<number> {
  const others = (await knownPools(context.memory)).filter(({ path }) => path !== plainPath(pool.path));
  if (others.length === 0) return 0;
  const mounts = await readMounts();
  const deviceOf = (path: string): string | undefined => mountOf(path, mounts)?.device;
  const near = others.filter(({ path }) => deviceOf(path) === deviceOf(plainPath(pool.path)));
  // one pool may be known by several paths
  const counted = new Set([pool.books && (await numberOf(pool.books))]);
  let sum = 0;
  for (const { path } of near) {
    // not mounted, or not readable: what it holds is not known to be here
    await using neighbour = await findPool(path, context).catch(() => undefined);
    if (!neighbour) continue;
    const number = await numberOf(neighbour.books);
    if (counted.has(number)) continue;
    counted.add(number);
    sum += await count(neighbour).catch(() => 0);
  }
  return sum;
}

async function numberOf(books: FileHandle): Promise<string> {
  const { dev, ino } = await books.stat();
  return `${dev}:${ino}`;
}
