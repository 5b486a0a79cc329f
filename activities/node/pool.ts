/**
 * A pool: the directory under which hostpath volumes are made, and its books in `<pool>/.dvflow`. A promise is a file
 * `promises/<DataVolume uid>`; it is written with the directory and lives as long, so that what a sparse disk has not used yet
 * is not given away twice.
 */
import { constants } from 'node:fs';
import { lstat, mkdir, open, type FileHandle } from 'node:fs/promises';
import { basename, dirname, isAbsolute } from 'node:path';
import { failureTypeOf, transientFailure } from '../failures.js';
import type { ClaimRef, PoolRef } from '../types.js';
import { plainPath } from '../without-end.js';
import { requireAnswer, watched } from './answers.js';
import { deniedFailure, isDenied } from './denied.js';
import { childPath, codeOf, ensureDirectory, openDirectory, undefinedIfAbsent } from './directories.js';
import { isOverlay } from './overlay.js';

/** KubeVirt's name of the disk in a Filesystem volume. */
export const DISK = 'disk.img';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY;

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
 * Opens a pool, and makes it where only the last component of its path is missing. `selinuxfs` is where this node's kernel shows
 * SELinux (default `/sys/fs/selinux`), for the reason of a refusal.
 * @throws {@link FailureType} retried: `NodeUnavailable` when the node has no such directory, so that nothing is written where
 * the pool's file system is not mounted, or when that does not answer; `NoSpace` when it cannot be made or read,
 * `PermissionDenied` when the kernel refuses
 */
export async function openPool(path: string, node: string, selinuxfs?: string): Promise<Pool> {
  try {
    const plain = plainPath(path);
    if (!isAbsolute(path) || plain === '') throw new Error('a pool is an absolute path below /');
    await requireAnswer(plain, node);
    return await watched(plain, async () => await openBooks(plain, await openRoot(plain, node)));
  } catch (error) {
    if (failureTypeOf(error)) throw error;
    const denied = { doing: 'open it', directory: path, node, selinuxfs };
    if (isDenied(error)) throw await deniedFailure(error, denied);
    const reason = error instanceof Error ? error.message : String(error);
    throw transientFailure('NoSpace', `pool ${path} on node ${node} cannot be used: ${reason}`, {
      cause: error,
    });
  }
}

async function openRoot(path: string, node: string): Promise<FileHandle> {
  const root = (await open(path, DIRECTORY).catch(undefinedIfAbsent)) ?? (await makeRoot(path, node));
  if (!(await isOverlay(root))) return root;
  await root.close();
  throw notMounted(path, node, ' but lies in an overlay');
}

/** A missing parent means that more than the pool is missing, and below an overlay the pool would end with its container. */
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

/** {@link openPool} for removal: `undefined` where the pool or its books do not exist; makes neither. */
export async function findPool(path: string, node: string): Promise<Pool | undefined> {
  await requireAnswer(path, node);
  // An empty mount point has no books: making them there would let a removal believe that the data is gone.
  const books = await lstat(`${path}/.dvflow`).catch(undefinedIfAbsent);
  return books ? await openPool(path, node) : undefined;
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
