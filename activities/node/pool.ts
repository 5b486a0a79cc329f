/**
 * A pool: the directory under which hostpath volumes are made, and its books in `<pool>/.dvflow`. A promise is a file
 * `promises/<DataVolume uid>`; it is written with the directory and lives as long, so that what a sparse disk has not used yet
 * is not given away twice.
 */
import { constants } from 'node:fs';
import { mkdir, open, type FileHandle } from 'node:fs/promises';
import { basename, dirname, isAbsolute } from 'node:path';
import { awayFailure, failureTypeOf, transientFailure } from '../failures.js';
import type { ClaimRef, PoolRef } from '../types.js';
import { plainPath } from '../without-end.js';
import { requireAnswer, watched } from './answers.js';
import { poolFailure } from './denied.js';
import {
  childPath,
  codeOf,
  ensureDirectory,
  exists,
  findDirectory,
  openDirectory,
  undefinedIfAbsent,
} from './directories.js';
import { isOverlay } from './overlay.js';
import { recallPool, refuseOther, type PoolContext } from './pool-memory.js';

/** KubeVirt's name of the disk in a Filesystem volume. */
export const DISK = 'disk.img';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY;

/** `__O_TMPFILE | O_DIRECTORY` of Linux: a file without a name, which is gone when it is closed. */
export const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;

/** What NAME_MAX leaves for a prefix: 255 bytes less `-pvc-` and a uid. */
const PREFIX_LENGTH = 255 - 5 - 36;

/** An open pool. */
export interface Pool extends AsyncDisposable {
  readonly path: string;
  /** The pool's directory. */
  readonly root: FileHandle;
  /** `.dvflow`: others may pass through (the transfer user to its own directory) but not list. */
  readonly books: FileHandle;
  readonly promises: FileHandle;
}

/**
 * Opens a pool that has books; makes nothing.
 * @throws {@link FailureType} as {@link findPool}; retried: `NodeUnavailable` without books too
 */
export async function openPool(path: string, context: PoolContext): Promise<Pool> {
  const pool = await findPool(path, context);
  if (pool) return pool;
  throw awayFailure(
    `pool ${path} on node ${context.node} has no .dvflow: its file system is not mounted; if the pool was emptied on purpose, run on that node: mkdir -p ${path}/.dvflow`,
    { nextRetryDelayMs: 10_000 },
  );
}

/**
 * {@link openPool}, or `undefined` where neither books exist nor is any known of: a pool that has never held a volume.
 * @throws {@link FailureType} retried: `NodeUnavailable` where a pool that is known is not there or does not answer; `NoSpace` when it
 * cannot be read, `PermissionDenied` when the kernel refuses
 */
export async function findPool(path: string, context: PoolContext): Promise<Pool | undefined> {
  return await opening(path, context, async (plain) => {
    const root = await findMounted(plain, context);
    if (!root) return undefined;
    if (await exists(root, '.dvflow'))
      return await openBooks(plain, await ownLayerRefused(root, path, context));
    await root.close();
    return undefined;
  });
}

/**
 * Opens a pool for the first volume in it or any other, and makes books in one that has never had any; of a missing path only the last
 * component. Who writes into it calls `rememberPool` under its lock.
 * @throws {@link FailureType} as {@link findPool}; retried: `NodeUnavailable` when the node has no such directory, so that nothing is
 * written where the pool's file system is not mounted
 */
export async function preparePool(path: string, context: PoolContext): Promise<Pool> {
  return await opening(path, context, async (plain) => {
    const root = await findMounted(plain, context);
    const made = root ?? (await makeRoot(plain, context.node));
    return await openBooks(plain, await ownLayerRefused(made, path, context));
  });
}

/** Opens the directory of a pool that has no books, for a look at its file system; makes its last component. @throws as {@link preparePool} does, where no books could be made too */
export async function openUnusedPool(path: string, context: PoolContext): Promise<FileHandle> {
  return await opening(path, context, async (plain) => {
    const root = await findMounted(plain, context);
    const opened = await ownLayerRefused(root ?? (await makeRoot(plain, context.node)), path, context);
    try {
      await tryToWrite(opened);
      return opened;
    } catch (error) {
      await opened.close();
      throw error;
    }
  });
}

/**
 * Refuses the place of a known pool where something else is.
 * @throws {@link FailureType} retried: `NodeUnavailable`
 */
export async function requireMounted(path: string, context: PoolContext): Promise<void> {
  if (!(await recallPool(context.memory, path))) return;
  await using _ = await opening(path, context, async (plain) => await findMounted(plain, context));
}

async function opening<T>(
  path: string,
  context: PoolContext,
  open: (plain: string) => Promise<T>,
): Promise<T> {
  const { node, selinuxfs } = context;
  try {
    const plain = plainPath(path);
    if (!isAbsolute(path) || plain === '') throw new Error('a pool is an absolute path below /');
    await requireAnswer(plain, node);
    return await watched(plain, async () => await open(plain));
  } catch (error) {
    if (failureTypeOf(error)) throw error;
    const failure = await poolFailure(error, { doing: 'open it', directory: path, node, selinuxfs });
    if (failureTypeOf(failure)) throw failure;
    const reason = error instanceof Error ? error.message : String(error);
    throw transientFailure('NoSpace', `pool ${path} on node ${node} cannot be used: ${reason}`, {
      cause: error,
    });
  }
}

/** The pool's directory; of a known pool only with the books that are known. */
async function findMounted(path: string, { node, memory }: PoolContext): Promise<FileHandle | undefined> {
  const known = await recallPool(memory, path);
  const root = await open(path, DIRECTORY).catch(undefinedIfAbsent);
  if (!known || memory === undefined) return root;
  try {
    await using books = root && (await findDirectory(root, '.dvflow'));
    await refuseOther(books, { known, node, memory });
    return root;
  } catch (error) {
    await root?.close();
    throw error;
  }
}

/** Whether books can be made, without making them: a file without a name goes when it is closed. */
async function tryToWrite(root: FileHandle): Promise<void> {
  const file = await open(`/proc/self/fd/${root.fd}`, constants.O_RDWR | O_TMPFILE, 0o600).catch(
    (error: unknown) => {
      // not every file system has such files
      if (!['EOPNOTSUPP', 'EISDIR', 'EINVAL'].includes(String(codeOf(error)))) throw error;
      return undefined;
    },
  );
  await file?.close();
}

/** A pool in an overlay would end with its container. */
async function ownLayerRefused(root: FileHandle, path: string, { node }: PoolContext): Promise<FileHandle> {
  if (!(await isOverlay(root))) return root;
  await root.close();
  throw notMounted(path, node, ' but lies in an overlay');
}

/** A missing parent means that more than the pool is missing. */
async function makeRoot(path: string, node: string): Promise<FileHandle> {
  const found = await open(dirname(path), DIRECTORY).catch(undefinedIfAbsent);
  if (!found) throw notMounted(path, node);
  await using parent = found;
  if (await isOverlay(parent)) throw notMounted(path, node);
  const child = childPath(parent, basename(path));
  await mkdir(child, { mode: 0o755 }).catch((error: unknown) => {
    if (codeOf(error) !== 'EEXIST') throw error;
  });
  return await open(child, DIRECTORY);
}

function notMounted(path: string, node: string, but = ''): Error {
  return transientFailure(
    'NodeUnavailable',
    `pool ${path} is not a directory on node ${node}${but}: create it or mount it`,
  );
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

/** Opens the directory of a volume. */
export async function openVolumeDirectory(pool: Pool, directory: string): Promise<FileHandle> {
  return await openDirectory(pool.root, volumeName(directory));
}

/**
 * Name of a claim's directory under the pool, as hostpath-provisioner gives it; a claim's name may be longer than a directory's, so
 * that of the longest ones only the beginning is a prefix. `workflows/placement.ts` names it in the same way.
 */
export function directoryName({ name, uid }: ClaimRef, { useNamingPrefix }: PoolRef): string {
  return useNamingPrefix ? `${name.slice(0, PREFIX_LENGTH)}-pvc-${uid}` : `pvc-${uid}`;
}

/** The name itself, if a volume may have it. @throws Error for hidden names: `.dvflow` is no volume */
export function volumeName(directory: string): string {
  if (directory.startsWith('.')) throw new Error(`'${directory}' is not the name of a volume's directory`);
  return directory;
}
