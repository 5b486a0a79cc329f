/**
 * What a clone reads. The path of a volume is the administrator's and is followed, as kubelet does; what lies inside is its tenant's:
 * a disk is looked at before it is opened, and whatever else bears its name is refused.
 */
import { constants, type Stats } from 'node:fs';
import { lstat, open, realpath, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { failureTypeOf, permanentFailure, transientFailure } from '../failures.js';
import type { SourceVolume } from '../types/clone.js';
import { childPath, codeOf } from './directories.js';
import { O_PATH } from './place.js';
import { DISK, requireMounted } from './pool.js';
import type { PoolContext } from './pool-memory.js';
import { describe, openVolumeTree } from './volume-path.js';

/** Flag of Linux, which Node does not name: reading that leaves no trace. */
const O_NOATIME = 0o1000000;

/** Where the node remembers pools. */
type Memory = PoolContext['memory'];

/**
 * Opens the disk of a volume for reading: `disk.img`, or the block device.
 * @throws {@link FailureType} `SourceNotFound` where there is none; `ImageHostile` for a link, a FIFO, a device, or a file that has
 * other names too; retried: `NodeUnavailable` while the volume's path does not exist
 */
export async function openSourceDisk(volume: SourceVolume, memory?: Memory): Promise<FileHandle> {
  if (volume.volumeMode === 'Block') return await openSourceDevice(volume);
  await using tree = await openSourceTree(volume, memory);
  return await openDiskIn(tree, volume);
}

/** Opens the directory of a Filesystem volume. @throws as {@link openSourceDisk} */
export async function openSourceTree(volume: SourceVolume, memory?: Memory): Promise<FileHandle> {
  try {
    return await openVolumeTree(volume);
  } catch (error) {
    if (isMissed(error) && (await isRemoved(volume, memory)))
      throw permanentFailure('SourceNotFound', `${describe(volume)} was removed`, error);
    throw error;
  }
}

/** Of what does not answer nothing can be asked: whoever asks waits with it. */
function isMissed(error: unknown): boolean {
  return failureTypeOf(error) === 'NodeUnavailable' && codeOf((error as Error).cause) === 'ENOENT';
}

/** The volume is gone for good where its pool is there, with its own books: a file system that is not mounted has none, or others. */
async function isRemoved({ path, node }: SourceVolume, memory: Memory): Promise<boolean> {
  const found = (name: string): Promise<Stats | undefined> => lstat(name).catch(() => undefined);
  if ((await found(path)) || !(await found(`${dirname(path)}/.dvflow`))) return false;
  return await requireMounted(dirname(path), { node, memory }).then(
    () => true,
    () => false,
  );
}

async function openDiskIn(tree: FileHandle, volume: SourceVolume): Promise<FileHandle> {
  const what = `${DISK} in ${describe(volume)}`;
  await using named = await open(childPath(tree, DISK), O_PATH | constants.O_NOFOLLOW).catch(
    (error: unknown) => {
      if (codeOf(error) !== 'ENOENT') throw unreadable(what, error);
      throw permanentFailure('SourceNotFound', `${what} does not exist: the volume holds no disk`, error);
    },
  );
  const [found, around] = await Promise.all([named.stat(), tree.stat()]);
  const wrong = whatIsWrong(found, around);
  if (wrong) throw permanentFailure('ImageHostile', `${what} ${wrong}`);
  return await reopen(named).catch((error: unknown) => {
    throw unreadable(what, error);
  });
}

/** The very file that was looked at. */
async function reopen({ fd }: FileHandle): Promise<FileHandle> {
  const path = `/proc/self/fd/${fd}`;
  // only the file's owner and root may leave no trace
  return await open(path, constants.O_RDONLY | O_NOATIME).catch(() => open(path, constants.O_RDONLY));
}

/** A disk is one regular file of the volume's own; a second name could be a file that the tenant may not read. */
function whatIsWrong(found: Stats, around: Stats): string | undefined {
  if (found.isSymbolicLink()) return 'is a symbolic link';
  if (!found.isFile()) return 'is not a regular file';
  if (found.nlink !== 1) return `has ${found.nlink} links, expected 1`;
  if (found.dev !== around.dev) return 'is on another file system than its directory';
  return undefined;
}

/** Several clones may read it at once, so that it is not held for this process alone. */
async function openSourceDevice(volume: SourceVolume): Promise<FileHandle> {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  const failed = (error: unknown): never => {
    throw unreadable(describe(volume), error);
  };
  const path = await realpath(volume.path).catch(failed);
  if (!(await lstat(path).catch(failed)).isBlockDevice())
    throw permanentFailure('UnsupportedSource', `${describe(volume)} is not a block device`);
  const device = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch(failed);
  if ((await device.stat()).isBlockDevice()) return device;
  await device.close();
  throw permanentFailure('UnsupportedSource', `${describe(volume)} is not a block device`);
}

function unreadable(what: string, error: unknown): Error {
  const code = String(codeOf(error));
  if (['EACCES', 'EPERM'].includes(code))
    return permanentFailure('SourceForbidden', `${what} cannot be opened (${code})`, error);
  return transientFailure('NodeUnavailable', `${what} cannot be opened (${code})`, {
    cause: error,
    nextRetryDelayMs: 10_000,
  });
}
