/** What the volumes of a pool occupy of what was promised to them. */
import { lstat, statfs } from 'node:fs/promises';
import { childPath, codeOf, exists, undefinedIfAbsent } from './directories.js';
import { findStateOf } from './marker.js';
import { DISK, openPool, openVolumeDirectory, type Pool } from './pool.js';
import type { PoolContext } from './pool-memory.js';
import { readablePromises, type KeptPromise } from './promises.js';
import { nameAside } from './remove.js';
import { createSharedBlocks } from './shared-blocks.js';
import { treeBytes, type Usage } from './usage.js';

/** Volumes that are looked at at the same time. */
const LOOKS_AT_ONCE = 32;

/** A promise, and how much of it is used. */
export type Kept = KeptPromise & { readonly usedBytes: number };

/**
 * Every promise that still stands, with what its volume occupies: the disk as it is now, and what else is there by the last `usage`,
 * if anybody has measured it.
 */
export async function readKept(
  pool: Pool,
  { usage, promises }: { readonly usage: Usage | undefined; readonly promises: readonly KeptPromise[] },
): Promise<readonly Kept[]> {
  const { dev } = await pool.root.stat();
  const kept: Kept[] = [];
  // Some at once, since each look waits for the kernel several times; not all, since each holds a descriptor.
  for (let from = 0; from < promises.length; from += LOOKS_AT_ONCE) {
    const some = promises.slice(from, from + LOOKS_AT_ONCE);
    const looked = await Promise.all(
      some.map(async (promise) => {
        const disk = await diskBytes(pool, promise.directory, dev);
        if (disk === undefined && (await isOrphan(pool, promise))) return undefined;
        const own = (disk ?? 0) - (usage?.shared.get(promise.directory) ?? 0);
        const used = Math.max(own, disk === undefined ? 0 : (usage?.bytes.get(promise.directory) ?? 0));
        return { ...promise, usedBytes: Math.min(promise.bytes, used) };
      }),
    );
    kept.push(...looked.filter((promise) => promise !== undefined));
  }
  return kept;
}

/** Nothing stands behind the promise any more: somebody deleted the PersistentVolume, and then its directory by hand. */
async function isOrphan(pool: Pool, { directory, dataVolume }: KeptPromise): Promise<boolean> {
  if (await exists(pool.root, directory)) return false;
  if (await exists(pool.books, nameAside(directory))) return false;
  return (await findStateOf(pool, { directory, uid: dataVolume.uid })) === undefined;
}

/**
 * Looks at every file of every volume of the pool at `path`: of a directory of many files that takes a while. Promises that cannot be
 * read are left out. @throws as `openPool`
 */
export async function measureUsage(path: string, context: PoolContext): Promise<Usage> {
  await using pool = await openPool(path, context);
  const { dev: device } = await pool.root.stat();
  const bytes = new Map<string, number>();
  const blocks = await createSharedBlocks(pool.root);
  const promises = await readablePromises(pool);
  for (const promise of promises) {
    const found = await openVolumeDirectory(pool, promise.directory).catch(undefinedIfNoDirectory);
    if (!found) continue;
    await using volume = found;
    const onFile = (file: string, size: number): Promise<void> =>
      blocks.look(file, { by: promise.directory, bytes: size });
    bytes.set(promise.directory, await treeBytes(volume, { device, limit: promise.bytes, onFile }));
  }
  const shared = blocks.countedTwice();
  for (const [directory, twice] of shared)
    bytes.set(directory, Math.max(0, (bytes.get(directory) ?? 0) - twice));
  const kept = await readKept(pool, { usage: { bytes, shared, capacityBytes: Infinity }, promises });
  const { bavail, bsize } = await statfs(`/proc/self/fd/${pool.root.fd}`);
  const used = kept.reduce((sum, { usedBytes }) => sum + usedBytes, 0);
  return { bytes, shared, capacityBytes: bavail * bsize + used };
}

/**
 * Bytes that a volume's disk occupies, holes not counted; `undefined` without the volume's directory. A file with other links or on
 * another file system is not this pool's space.
 */
async function diskBytes(pool: Pool, directory: string, device: number): Promise<number | undefined> {
  const found = await openVolumeDirectory(pool, directory).catch(undefinedIfNoDirectory);
  if (!found) return undefined;
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
