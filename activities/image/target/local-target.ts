import { constants } from 'node:fs';
import { mkdir, open, readdir, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { permanentFailure } from '../../failures.js';
import { codeOf } from '../../node/directories.js';
import { LOST_AND_FOUND } from '../archive/unpack-empty.js';
import { blockDeviceSize, isReadOnlyDevice } from '../block-device.js';
import type { TargetFile } from '../writer.js';

/** A file or block device of this machine, open to be filled. */
export interface LocalTarget extends AsyncDisposable {
  readonly file: TargetFile;
  /** The file was there before it was opened; devices always are. */
  readonly existed: boolean;
  /** Removes a file that was made here. */
  discard(): Promise<void>;
}

/**
 * Opens a target by its path: a new or an existing regular file, which is not emptied yet, or a block device that nobody has mounted.
 * @throws {@link FailureType} `ResourceExists` for a device in use, or for what is neither file nor device; `NotAuthorized` where it
 * may not be written
 */
export async function openLocalTarget(path: string): Promise<LocalTarget> {
  const found = await stat(path).catch(() => undefined);
  if (found && !found.isFile() && !found.isBlockDevice())
    throw permanentFailure('ResourceExists', `${path} is neither a regular file nor a block device`);
  const isDevice = found?.isBlockDevice() ?? false;
  await using opened = new AsyncDisposableStack();
  const { O_RDWR, O_CREAT, O_EXCL, O_DIRECT } = constants;
  // exclusive use of a device fails while a file system on it is mounted
  const file = opened.use(await openAs(path, isDevice ? O_RDWR | O_EXCL : O_RDWR | O_CREAT));
  if (isDevice && isReadOnlyDevice(file.fd))
    throw permanentFailure('NotAuthorized', `${path} cannot be written: the device is read-only`);
  const direct = await open(path, O_RDWR | O_DIRECT).catch(() => undefined);
  if (direct) opened.use(direct);
  const directory = isDevice ? undefined : opened.use(await open(dirname(path), constants.O_RDONLY));
  const handles = opened.move();
  return {
    file: {
      fd: file.fd,
      ...(direct ? { directFd: direct.fd } : {}),
      ...(directory ? { directoryFd: directory.fd } : {}),
      ...(isDevice ? { deviceBytes: blockDeviceSize(file.fd) } : {}),
    },
    existed: found !== undefined,
    async discard() {
      if (found === undefined) await rm(path, { force: true });
    },
    [Symbol.asyncDispose]: () => handles.disposeAsync(),
  };
}

/**
 * Opens a directory of this machine to be filled from an archive; makes it if it is missing.
 * @throws {@link FailureType} `ContentTypeNotSupported` for a block device; `ResourceExists` where it holds something that would
 * be lost, unless it is `ours`: what an attempt that was killed has left; or where it is no directory; `NotAuthorized`
 */
export async function openLocalDirectory(path: string, { ours }: { ours: boolean }): Promise<FileHandle> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isBlockDevice())
    throw permanentFailure(
      'ContentTypeNotSupported',
      `contentType archive needs a directory to unpack into, ${path} is a block device`,
    );
  if (found && !found.isDirectory())
    throw permanentFailure(
      'ResourceExists',
      `${path} is no directory that an archive could be unpacked into`,
    );
  await orRefused(path, mkdir(path, { recursive: true }));
  const names = ours ? [] : await orRefused(path, readdir(path));
  if (names.some((name) => name !== LOST_AND_FOUND))
    throw permanentFailure('ResourceExists', `${path} is not empty: what it holds would be lost`);
  return await openAs(path, constants.O_RDONLY | constants.O_DIRECTORY);
}

async function openAs(path: string, flags: number): Promise<FileHandle> {
  return await orRefused(path, open(path, flags, 0o644));
}

async function orRefused<T>(path: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const code = String(codeOf(error));
    if (code === 'EBUSY') throw permanentFailure('ResourceExists', `${path} is in use (${code})`, error);
    if (['EACCES', 'EPERM', 'EROFS'].includes(code))
      throw permanentFailure('NotAuthorized', `${path} cannot be written (${code})`, error);
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EEXIST')
      throw permanentFailure('ResourceExists', `${path} is no place for it (${code})`, error);
    throw error;
  }
}
