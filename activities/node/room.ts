/** How much a pool can still promise. */
import { lstat, statfs } from 'node:fs/promises';
import { shareReading } from '../shared-reading.js';
import type { PoolFacts, PoolRef } from '../types.js';
import { childPath, codeOf, undefinedIfAbsent } from './directories.js';
import { DISK, openPool, openVolumeDirectory, readPromises, type Pool } from './pool.js';

/** Volumes that are looked at at the same time. */
const LOOKS_AT_ONCE = 32;

/** What a pool holds, whoever asks. */
interface Holdings {
  readonly totalBytes: number;
  readonly availableBytes: number;
  readonly promisedBytes: number;
  /** What disks occupy of their promises. */
  readonly usedBytes: number;
}

/** Readings of pools that are shared by those who ask at the same time, by path: two hundred claims ask at once. */
const readings = new Map<string, () => Promise<Holdings>>();

/** Capacity, promises and room of a pool on this node, for placement and metrics. @throws as `openPool` */
export async function observePool(
  { path, overcommit }: PoolRef,
  {
    node,
    foreignBytes,
    selinuxfs,
  }: { readonly node: string; readonly foreignBytes: number; readonly selinuxfs?: string | undefined },
): Promise<PoolFacts> {
  let reading = readings.get(path);
  if (!reading) {
    reading = shareReading(async () => {
      await using pool = await openPool(path, node, selinuxfs);
      return await readHoldings(pool);
    });
    readings.set(path, reading);
  }
  return factsOf(await reading(), { node, foreignBytes, overcommit });
}

/** As {@link observePool}, for who holds the pool's lock. */
export async function measurePool(
  pool: Pool,
  node: string,
  asked: { readonly foreignBytes: number; readonly overcommit?: number | undefined },
): Promise<PoolFacts> {
  return factsOf(await readHoldings(pool), { node, ...asked });
}

/**
 * Room of a pool: bytes available minus what promises have not used yet, minus what others promised; never below 0. With
 * `overcommit` so many times the bytes that volumes may use at all, minus everything promised.
 */
function factsOf(
  { totalBytes, availableBytes, promisedBytes, usedBytes }: Holdings,
  {
    node,
    foreignBytes,
    overcommit = 1,
  }: { readonly node: string; readonly foreignBytes: number; readonly overcommit?: number | undefined },
): PoolFacts {
  const capacity = Math.floor((availableBytes + usedBytes) * overcommit);
  const roomBytes = Math.max(0, capacity - promisedBytes - foreignBytes);
  return { node, roomBytes, totalBytes, promisedBytes, availableBytes };
}

async function readHoldings(pool: Pool): Promise<Holdings> {
  // Promises first: a disk that grows between the two readings is then counted twice, never not at all.
  const promises = await sumPromises(pool);
  const { bavail, blocks, bsize } = await statfs(`/proc/self/fd/${pool.root.fd}`);
  return { ...promises, totalBytes: blocks * bsize, availableBytes: bavail * bsize };
}

async function sumPromises(pool: Pool): Promise<Pick<Holdings, 'promisedBytes' | 'usedBytes'>> {
  const sum = { promisedBytes: 0, usedBytes: 0 };
  const promises = await readPromises(pool);
  const { dev } = await pool.root.stat();
  // Some at once, since each look waits for the kernel several times; not all, since each holds a descriptor.
  for (let from = 0; from < promises.length; from += LOOKS_AT_ONCE) {
    const some = promises.slice(from, from + LOOKS_AT_ONCE);
    const used = await Promise.all(
      some.map(async ({ bytes, directory }) => Math.min(bytes, await diskBytes(pool, directory, dev))),
    );
    sum.promisedBytes += some.reduce((bytes, promise) => bytes + promise.bytes, 0);
    sum.usedBytes += used.reduce((bytes, disk) => bytes + disk, 0);
  }
  return sum;
}

/**
 * Bytes that a volume's disk occupies, holes not counted. One look at one file: what else a tenant puts into the volume neither
 * holds up the pool's lock nor counts, and a file with other links or on another file system is not this pool's space.
 */
async function diskBytes(pool: Pool, directory: string, device: number): Promise<number> {
  const found = await openVolumeDirectory(pool, directory).catch(undefinedIfNoDirectory);
  if (!found) return 0;
  await using volume = found;
  const disk = await lstat(childPath(volume, DISK)).catch(undefinedIfAbsent);
  if (!disk?.isFile() || disk.nlink !== 1 || disk.dev !== device) return 0;
  // `st_blocks` counts 512 bytes whatever the file system's block size (stat(2)).
  return disk.blocks * 512;
}

function undefinedIfNoDirectory(error: unknown): undefined {
  if (!['ENOENT', 'ENOTDIR', 'ELOOP'].includes(String(codeOf(error)))) throw error;
  return undefined;
}
