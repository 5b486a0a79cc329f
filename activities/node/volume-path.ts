/** What the path of a static local volume leads to. The path itself is the administrator's and is followed, as kubelet does. */
import { constants } from 'node:fs';
import { open, readdir, readFile, realpath, stat, statfs, type FileHandle } from 'node:fs/promises';
import { permanentFailure, transientFailure } from '../failures.js';
import { blockDeviceSize, deviceNumber, isReadOnlyDevice } from '../image/block-device.js';
import { deviceIdentity } from '../image/target/target-identity.js';
import type { ReservedVolume } from '../types/local-volumes.js';
import { requireAnswer } from './answers.js';
import { codeOf } from './directories.js';
import { isOwnLayer } from './overlay.js';

/** A volume by name, node and path: what messages say about it. */
export type VolumePath = Pick<ReservedVolume, 'volume' | 'node' | 'path' | 'volumeMode'>;

/**
 * Opens the block device of a volume for this process alone: nobody can mount it meanwhile.
 * @throws {@link FailureType} `IncompatiblePVC` for anything but a device; `ResourceExists` while it is in use; `NotAuthorized`;
 * retried: `NodeUnavailable` where the path does not exist
 */
export async function openVolumeDevice(volume: VolumePath): Promise<FileHandle> {
  const { O_RDWR, O_EXCL, O_NOFOLLOW, O_NONBLOCK } = constants;
  const path = await resolve(volume);
  if (!(await stat(path)).isBlockDevice()) throw notThat(volume, 'a block device');
  const device = await open(path, O_RDWR | O_EXCL | O_NOFOLLOW | O_NONBLOCK).catch((error: unknown) => {
    throw cannotOpen(volume, error);
  });
  try {
    if (!(await device.stat()).isBlockDevice()) throw notThat(volume, 'a block device');
    if (isReadOnlyDevice(device.fd))
      throw permanentFailure('NotAuthorized', `${describe(volume)} cannot be written: it is read-only`);
    const user = await userOf(device);
    if (user) throw inUse(volume, user);
    return device;
  } catch (error) {
    await device.close();
    throw error;
  }
}

/**
 * Opens the directory of a volume. `root` is the worker's own.
 * @throws {@link FailureType} as {@link openTreeToUndo}; retried: `NodeUnavailable` where the path leads into the worker's own container:
 * the node would find nothing of what is written there
 */
export async function openVolumeTree(volume: VolumePath, root = '/'): Promise<FileHandle> {
  const tree = await openTreeToUndo(volume);
  try {
    const own = await isOwnLayer(tree, root).catch((error: unknown) => {
      throw cannotOpen(volume, error);
    });
    if (own) throw unseen(volume);
    return tree;
  } catch (error) {
    await tree.close();
    throw error;
  }
}

/**
 * Opens the directory of a volume wherever it lies: a worker of before may have filled one in its own container, and it has to be given
 * back.
 * @throws {@link FailureType} `IncompatiblePVC` for anything but a directory; `NotAuthorized`; retried: `NodeUnavailable` where the
 * path does not exist or does not answer
 */
export async function openTreeToUndo(volume: VolumePath): Promise<FileHandle> {
  await requireAnswer(volume.path, volume.node);
  const path = await resolve(volume);
  const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
  return await open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW).catch((error: unknown) => {
    if (codeOf(error) === 'ENOTDIR') throw notThat(volume, 'a directory');
    throw cannotOpen(volume, error);
  });
}

async function resolve(volume: VolumePath): Promise<string> {
  return await realpath(volume.path).catch((error: unknown) => {
    throw cannotOpen(volume, error);
  });
}

/** Bytes that a volume has room for: a device's size, or that of the file system around a directory. */
export async function bytesOf(opened: FileHandle, { volumeMode }: VolumePath): Promise<number> {
  if (volumeMode === 'Block') return blockDeviceSize(opened.fd);
  const { blocks, bsize } = await statfs(`/proc/self/fd/${opened.fd}`);
  return blocks * bsize;
}

/** What tells one device from another: the file behind a loop device, whose number may change, else the device's own number. */
export async function identityOf(device: FileHandle): Promise<string> {
  const file = await backingFileOf(device);
  return file === undefined ? `device ${deviceNumber(device.fd)}` : `loop ${file}`;
}

/**
 * What tells the bytes of a device from those of another one that has its {@link identityOf identity} later: numbers are given
 * again, files and logical volumes made anew. `undefined` where nothing tells.
 */
export async function mediumOf(device: FileHandle): Promise<string | undefined> {
  const file = await backingFileOf(device);
  const behind = file === undefined ? undefined : await stat(file, { bigint: true }).catch(() => undefined);
  // the same file may be attached again, also after a reboot
  if (behind?.isFile() && behind.birthtimeNs > 0n) return `file ${behind.ino} of ${behind.birthtimeNs}`;
  return deviceIdentity(device.fd);
}

async function backingFileOf({ fd }: FileHandle): Promise<string | undefined> {
  const path = `/sys/dev/block/${deviceNumber(fd)}/loop/backing_file`;
  const file = await readFile(path, 'utf8').catch(() => undefined);
  return file?.trim();
}

/** Who uses a device although it could be opened: a mapping over it, or a loop device, as kubelet makes one for each pod. */
async function userOf(device: FileHandle): Promise<string | undefined> {
  const { rdev } = await device.stat({ bigint: true });
  const [holder] = await readdir(`/sys/dev/block/${deviceNumber(device.fd)}/holders`).catch(() => []);
  if (holder !== undefined) return `device ${holder} is on it`;
  const loops = (await readdir('/sys/block').catch(() => [])).filter((name) => name.startsWith('loop'));
  for (const loop of loops) {
    const file = await readFile(`/sys/block/${loop}/loop/backing_file`, 'utf8').catch(() => undefined);
    if (file === undefined) continue;
    const behind = await stat(file.trim(), { bigint: true }).catch(() => undefined);
    if (behind?.isBlockDevice() && behind.rdev === rdev)
      return `loop device ${loop} is on it, as for a pod that uses it`;
  }
  return undefined;
}

function cannotOpen(volume: VolumePath, error: unknown): Error {
  const code = String(codeOf(error));
  if (code === 'EBUSY') return inUse(volume, 'it is mounted or claimed by another device');
  if (['EACCES', 'EPERM', 'EROFS'].includes(code))
    return permanentFailure('NotAuthorized', `${describe(volume)} cannot be opened (${code})`, error);
  if (['ENOENT', 'ENXIO', 'ENODEV', 'ENOTDIR'].includes(code))
    return transientFailure('NodeUnavailable', `${describe(volume)} does not exist (${code})`, {
      cause: error,
      nextRetryDelayMs: 10_000,
    });
  return transientFailure('NodeUnavailable', `${describe(volume)} cannot be opened (${code})`, {
    cause: error,
  });
}

/** A device that somebody uses must not be written to. */
function inUse(volume: VolumePath, how: string): Error {
  return permanentFailure('ResourceExists', `${describe(volume)} is in use: ${how}`);
}

function unseen(volume: VolumePath): Error {
  return transientFailure(
    'NodeUnavailable',
    `${describe(volume)} lies in the container of the worker, which sees no disk of the node at that path: mount it into the node worker`,
    { nextRetryDelayMs: 10_000 },
  );
}

function notThat(volume: VolumePath, what: string): Error {
  return permanentFailure(
    'IncompatiblePVC',
    `PersistentVolume ${volume.volume} has volumeMode ${volume.volumeMode}, and its path ${volume.path} on node ${volume.node} is not ${what}`,
  );
}

/** `path /dev/loop10 of PersistentVolume local-block-pv10 on node node01`. */
export function describe({ path, volume, node }: VolumePath): string {
  return `path ${path} of PersistentVolume ${volume} on node ${node}`;
}
