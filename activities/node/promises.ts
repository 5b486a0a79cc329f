/**
 * The promises of a pool: one file a volume, with the bytes that it may use. They are written under the pool's lock.
 *
 * Each reservation adds all of them up, so that reading them anew made a thousand volumes cost a million files. What was read is kept
 * in memory and believed only while the directory is as this process left it: another process that changes it changes its time.
 */
import { rename } from 'node:fs/promises';
import type { DataVolumeRef } from '../types.js';
import { childPath, namesIn, readJson, removeFile, writeJson } from './directories.js';
import type { Pool } from './pool.js';
import { warn } from './warn.js';

/** What is in a promise file. */
export interface SpacePromise {
  readonly bytes: number;
  /** Name of the directory under the pool. */
  readonly directory: string;
  readonly dataVolume: DataVolumeRef;
}

/** A promise and the file that holds it. */
export interface KeptPromise extends SpacePromise {
  readonly file: string;
}

/** Promises by file, and how the directory was when they were all of them. */
interface Known {
  readonly stamp: string;
  readonly promises: Map<string, KeptPromise>;
}

/** By path of the pool. */
const known = new Map<string, Known>();

/** Every promise of the pool. @throws Error naming a promise that cannot be read: unknown bytes are not free bytes */
export async function readPromises(pool: Pool): Promise<readonly KeptPromise[]> {
  const before = known.get(pool.path);
  const stamp = await stampOf(pool);
  const believed = before?.stamp === stamp ? before.promises : undefined;
  // the names are always read: times are no finer than the kernel's tick
  const files = (await namesIn(pool.promises)).filter((name) => !name.startsWith('.'));
  if (believed && believed.size === files.length && files.every((file) => believed.has(file)))
    return [...believed.values()];
  const read = await Promise.all(files.map((file) => readPromise(pool, file)));
  const promises = read.filter((promise) => promise !== undefined);
  // who reads without the lock may be slower than a change
  if (known.get(pool.path) === before)
    known.set(pool.path, { stamp, promises: new Map(promises.map((promise) => [promise.file, promise])) });
  return promises;
}

/**
 * The promises of one directory, for who removes it: one that cannot be read is no hindrance there, and stays
 * for an operator to see to.
 */
export async function promisesOf(pool: Pool, directory: string): Promise<readonly KeptPromise[]> {
  return (await readablePromises(pool)).filter((promise) => promise.directory === directory);
}

/** {@link readPromises} without those that cannot be read, which are said in the log. */
export async function readablePromises(pool: Pool): Promise<readonly KeptPromise[]> {
  return await readPromises(pool).catch(() => readable(pool));
}

async function readable(pool: Pool): Promise<readonly KeptPromise[]> {
  const files = (await namesIn(pool.promises)).filter((name) => !name.startsWith('.'));
  const read = files.map((file) =>
    readPromise(pool, file).catch((error: unknown) => {
      warn('promise cannot be read', { pool: pool.path, promise: file, error });
      return undefined;
    }),
  );
  return (await Promise.all(read)).filter((promise) => promise !== undefined);
}

/** The promise in one file, or `undefined` where there is none. */
export async function readPromise(pool: Pool, file: string): Promise<KeptPromise | undefined> {
  const value = await readJson(pool.promises, file);
  if (value === undefined) return undefined;
  if (!isPromise(value)) throw new Error(`promise ${pool.path}/.dvflow/promises/${file} is not readable`);
  return { ...value, file };
}

function isPromise(value: unknown): value is SpacePromise {
  const { bytes, directory } = (value ?? {}) as Partial<SpacePromise>;
  return typeof bytes === 'number' && bytes >= 0 && typeof directory === 'string';
}

/** Writes the promise of a DataVolume. */
export async function writePromise(pool: Pool, promise: SpacePromise): Promise<void> {
  const file = promise.dataVolume.uid;
  await change(pool, async (promises) => {
    await writeJson(pool.promises, file, promise);
    promises.set(file, { ...promise, file });
  });
}

/** Frees the DataVolume's name for a second volume; the first keeps its bytes under its directory's name. */
export async function setPromiseAside(pool: Pool, promise: KeptPromise): Promise<void> {
  const { file, directory } = promise;
  await change(pool, async (promises) => {
    await rename(childPath(pool.promises, file), childPath(pool.promises, directory));
    await pool.promises.sync();
    promises.delete(file);
    promises.set(directory, { ...promise, file: directory });
  });
}

/** Removes every promise of a directory; the directory's data must be gone before. */
export async function removePromises(pool: Pool, directory: string): Promise<void> {
  const found = await promisesOf(pool, directory);
  await change(pool, async (promises) => {
    for (const { file } of found) {
      await removeFile(pool.promises, file);
      promises.delete(file);
    }
    await pool.promises.sync();
  });
}

/** Changes the directory under the pool's lock; what was known before stays known with the change, unless somebody else was here. */
async function change(
  pool: Pool,
  work: (promises: Map<string, KeptPromise>) => Promise<void>,
): Promise<void> {
  const before = known.get(pool.path);
  const intact = before?.stamp === (await stampOf(pool));
  known.delete(pool.path);
  const promises = before?.promises ?? new Map<string, KeptPromise>();
  await work(promises);
  if (intact) known.set(pool.path, { stamp: await stampOf(pool), promises });
}

/** Changes whenever a file of the directory is made, renamed or removed. */
async function stampOf({ promises }: Pool): Promise<string> {
  const { dev, ino, mtimeNs } = await promises.stat({ bigint: true });
  return [dev, ino, mtimeNs].join(':');
}
