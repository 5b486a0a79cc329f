/**
 * A pool: the directory under which hostpath volumes are made, and its books in `<pool>/.dvflow`. A promise is a file
 * `promises/<DataVolume uid>`; it is written with the directory and lives as long, so that what a sparse disk has not used yet
 * is not given away twice.
 */
import { constants } from 'node:fs';
import { mkdir, open, rename, statfs, type FileHandle } from 'node:fs/promises';
import { isAbsolute, normalize } from 'node:path';
import { transientFailure } from '../failures.js';
import type { DataVolumeRef, PoolFacts } from '../types.js';
import {
  allocatedBytes,
  childPath,
  ensureDirectory,
  namesIn,
  openDirectory,
  readJson,
  removeFile,
  undefinedIfAbsent,
  writeJson,
} from './directories.js';

/** An open pool. */
export interface Pool extends AsyncDisposable {
  readonly path: string;
  /** The pool's directory. */
  readonly root: FileHandle;
  /** `.dvflow`: others may pass through (the transfer user to its own directory) but not list. */
  readonly books: FileHandle;
  readonly promises: FileHandle;
}

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

/**
 * Opens a pool, and makes it where it is missing.
 * @throws {@link FailureType} `NoSpace` when it cannot be made or read
 */
export async function openPool(path: string, node: string): Promise<Pool> {
  try {
    const plain = normalize(path).replace(/\/+$/, '');
    if (!isAbsolute(path) || plain === '') throw new Error('a pool is an absolute path below /');
    await mkdir(plain, { recursive: true, mode: 0o755 });
    return await openBooks(plain, await open(plain, constants.O_RDONLY | constants.O_DIRECTORY));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw transientFailure('NoSpace', `pool ${path} on node ${node} cannot be used: ${reason}`, {
      cause: error,
    });
  }
}

/** {@link openPool} for removal: `undefined` where the pool's directory does not exist. */
export async function findPool(path: string, node: string): Promise<Pool | undefined> {
  const probe = await open(path, constants.O_RDONLY | constants.O_DIRECTORY).catch(undefinedIfAbsent);
  await probe?.close();
  return probe ? await openPool(path, node) : undefined;
}

async function openBooks(path: string, root: FileHandle): Promise<Pool> {
  const opened = [root];
  try {
    const books = await ensureDirectory(root, '.dvflow', { mode: 0o711 });
    opened.push(books);
    await refuseForeign(books);
    const promises = await ensureDirectory(books, 'promises', { mode: 0o700 });
    opened.push(promises);
    return {
      path,
      root,
      books,
      promises,
      [Symbol.asyncDispose]: async () => {
        await Promise.all(opened.map((handle) => handle.close()));
      },
    };
  } catch (error) {
    await Promise.all(opened.map((handle) => handle.close()));
    throw error;
  }
}

/** In a pool that everybody may write to, somebody else's `.dvflow` must not be believed. */
async function refuseForeign(books: FileHandle): Promise<void> {
  const { uid } = await books.stat();
  const own = process.getuid?.();
  if (own !== undefined && uid !== own) throw new Error(`.dvflow belongs to uid ${uid}, not to ${own}`);
}

/**
 * Room of a pool: bytes available minus what promises have not used yet, minus what others promised; never below 0.
 */
export async function measurePool(pool: Pool, node: string, foreignBytes: number): Promise<PoolFacts> {
  // Promises first: a disk that grows between the two readings is then counted twice, never not at all.
  const unused = await unusedBytes(pool);
  const { bavail, blocks, bsize } = await statfs(`/proc/self/fd/${pool.root.fd}`);
  const roomBytes = Math.max(0, bavail * bsize - unused - foreignBytes);
  return { node, roomBytes, totalBytes: blocks * bsize };
}

async function unusedBytes(pool: Pool): Promise<number> {
  let sum = 0;
  for (const promise of await readPromises(pool)) {
    sum += Math.max(0, promise.bytes - (await allocatedBytes(pool.root, promise.directory)));
  }
  return sum;
}

/** Every promise of the pool. @throws Error naming a promise that cannot be read: unknown bytes are not free bytes */
export async function readPromises(pool: Pool): Promise<readonly KeptPromise[]> {
  const files = (await namesIn(pool.promises)).filter((name) => !name.startsWith('.'));
  const promises = await Promise.all(files.map((file) => readPromise(pool, file)));
  return promises.filter((promise) => promise !== undefined);
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
  await writeJson(pool.promises, promise.dataVolume.uid, promise);
}

/** Frees the DataVolume's name for a second volume; the first keeps its bytes under its directory's name. */
export async function setPromiseAside(pool: Pool, { file, directory }: KeptPromise): Promise<void> {
  await rename(childPath(pool.promises, file), childPath(pool.promises, directory));
  await pool.promises.sync();
}

/** Removes every promise of a directory; the directory's data must be gone before. */
export async function removePromises(pool: Pool, directory: string): Promise<void> {
  for (const promise of await readPromises(pool)) {
    if (promise.directory === directory) await removeFile(pool.promises, promise.file);
  }
  await pool.promises.sync();
}

/** Opens the directory of a volume. */
export async function openVolumeDirectory(pool: Pool, directory: string): Promise<FileHandle> {
  return await openDirectory(pool.root, volumeName(directory));
}

/** The name itself, if a volume may have it. @throws Error for hidden names: `.dvflow` is no volume */
export function volumeName(directory: string): string {
  if (directory.startsWith('.')) throw new Error(`'${directory}' is not the name of a volume's directory`);
  return directory;
}
