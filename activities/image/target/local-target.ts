import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, readdir, realpath, rm, rmdir, stat, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createAsyncDisposables } from '../../disposables.js';
import { permanentFailure } from '../../failures.js';
import { codeOf } from '../../node/directories.js';
import { flock } from '../../node/flock.js';
import { LOST_AND_FOUND } from '../archive/unpack-empty.js';
import { blockDeviceSize, isReadOnlyDevice } from '../block-device.js';
import type { TargetFile } from '../writer.js';
import { isLockedByQemu } from './qemu-lock.js';
import { deviceIdentity, fileIdentity } from './target-identity.js';

/** Udev looks at a device that was written to under a lock of its own, for a moment. In seconds. */
const LOCK_WAIT_S = 2;

/** A file or block device of this machine, open to be filled. */
export interface LocalTarget extends AsyncDisposable {
  readonly file: TargetFile;
  /** The file was there before it was opened; devices always are. */
  readonly existed: boolean;
  /** Removes a file that was made here, if its path leads to it still. */
  discard(): Promise<void>;
  /**
   * Refuses to go on where the path leads elsewhere by now, or nowhere.
   * @throws {@link FailureType} `ClaimLost`
   */
  refuseMoved(): Promise<void>;
}

/**
 * Opens a target by its path: a new or an existing regular file, which is not emptied yet, or a block device that nobody has mounted.
 * It is ours alone as long as it is open.
 * @throws {@link FailureType} `ResourceExists` for a device in use, for what another process fills, or for what is neither file nor
 * device; `NotAuthorized` where it may not be written
 */
export async function openLocalTarget(path: string): Promise<LocalTarget> {
  const found = await stat(path).catch(() => undefined);
  if (found && !found.isFile() && !found.isBlockDevice())
    throw permanentFailure('ResourceExists', `${path} is neither a regular file nor a block device`);
  const isDevice = found?.isBlockDevice() ?? false;
  await using opened = createAsyncDisposables();
  const { O_RDWR, O_CREAT, O_EXCL, O_DIRECT } = constants;
  // exclusive use of a device fails while a file system on it is mounted
  const file = opened.use(await openAs(path, isDevice ? O_RDWR | O_EXCL : O_RDWR | O_CREAT));
  if (isDevice && isReadOnlyDevice(file.fd))
    throw permanentFailure('NotAuthorized', `${path} cannot be written: the device is read-only`);
  await lock(file, path);
  if (isLockedByQemu(file.fd))
    throw permanentFailure('ResourceExists', `${path} is in use by another program (QEMU locks it)`);
  const direct = await open(path, O_RDWR | O_DIRECT).catch(() => undefined);
  if (direct) opened.use(direct);
  const directory = isDevice ? undefined : opened.use(await open(dirname(path), constants.O_RDONLY));
  // a link to a file that was not there yet is the user's
  const made = found ? undefined : await realpath(path);
  const handles = opened.move();
  return {
    file: {
      fd: file.fd,
      ...(direct ? { directFd: direct.fd } : {}),
      ...(directory ? { directoryFd: directory.fd } : {}),
      ...(isDevice ? { deviceBytes: blockDeviceSize(file.fd) } : {}),
      // what cannot be told from others is never taken for what a record is about
      identity: (isDevice ? deviceIdentity : fileIdentity)(file.fd) ?? randomUUID(),
    },
    existed: found !== undefined,
    async discard() {
      // what somebody has put in its place is his
      if (made !== undefined && (await leadsTo(made, file))) await rm(made, { force: true });
    },
    async refuseMoved() {
      if (await leadsTo(path, file)) return;
      throw permanentFailure('ClaimLost', `${path} was moved or replaced while it was written`);
    },
    [Symbol.asyncDispose]: () => handles[Symbol.asyncDispose](),
  };
}

/** Whether a path leads to what is open: to the same file or directory, or to the same device, whichever node of it that is. */
async function leadsTo(path: string, file: FileHandle): Promise<boolean> {
  const now = await stat(path, { bigint: true }).catch(() => undefined);
  const own = await file.stat({ bigint: true });
  if (own.isBlockDevice()) return now?.isBlockDevice() === true && now.rdev === own.rdev;
  return now?.dev === own.dev && now.ino === own.ino;
}

/** A directory of this machine, open to be filled. */
export interface LocalDirectory extends AsyncDisposable {
  readonly handle: FileHandle;
  /** Tells this directory from one that has its name, or its inode, later. */
  readonly identity: string;
  /**
   * Refuses to fill it where something would be lost: anything, unless `identity` says that an attempt that was killed began here.
   * @throws {@link FailureType} `ResourceExists`
   */
  refuseFilled(identity: string | undefined): Promise<void>;
  /** Removes it where it was made here and is empty. */
  discard(): Promise<void>;
}

/**
 * Opens a directory of this machine to be filled from an archive; makes it if it is missing. It is ours alone as long as it is open.
 * @throws {@link FailureType} `ContentTypeNotSupported` for a block device; `ResourceExists` where it is no directory, or another
 * process fills it; `NotAuthorized`
 */
export async function openLocalDirectory(path: string): Promise<LocalDirectory> {
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
  await using opened = createAsyncDisposables();
  await orRefused(path, makeDirectories(path));
  const handle = opened.use(await openAs(path, constants.O_RDONLY | constants.O_DIRECTORY));
  await lock(handle, path);
  const { ino, birthtimeNs } = await handle.stat({ bigint: true });
  const identity = `${ino}.${birthtimeNs}`;
  const handles = opened.move();
  return {
    handle,
    identity,
    async refuseFilled(begun) {
      const names = begun === identity ? [] : await orRefused(path, readdir(path));
      if (names.some((name) => name !== LOST_AND_FOUND))
        throw permanentFailure('ResourceExists', `${path} is not empty: what it holds would be lost`);
    },
    async discard() {
      // whatever keeps it there is somebody else's
      if (!found && (await leadsTo(path, handle))) await rmdir(path).catch(() => undefined);
    },
    [Symbol.asyncDispose]: () => handles[Symbol.asyncDispose](),
  };
}

/** Two that write to one target at once would leave a mixture, and each remove what the other made. */
async function lock(target: FileHandle, path: string): Promise<void> {
  const { code, said } = await flock(target.fd, LOCK_WAIT_S).catch((error: unknown) => {
    // a machine without util-linux has nothing that could hold a lock either
    if (codeOf(error) === 'ENOENT') return { code: 0, said: '' };
    throw error;
  });
  // what it says then is that this file system has no locks
  if (code !== 1 || said !== '') return;
  throw permanentFailure('ResourceExists', `${path} is in use by another process`);
}

async function openAs(path: string, flags: number): Promise<FileHandle> {
  return await orRefused(path, open(path, flags, 0o644));
}

/**
 * Makes a directory and what it lies in, as far as they are missing. Node's own way never ends where the system says `ENOENT` of a
 * directory whose parent is there: below `/proc`, and in a working directory that was removed.
 * @throws what the system says, `EEXIST` for something that is no directory
 */
export async function makeDirectories(path: string, mode = 0o777): Promise<void> {
  if (await isDirectory(path)) return;
  const parent = dirname(path);
  if (parent !== path) await makeDirectories(parent, mode);
  await mkdir(path, { mode }).catch(async (error: unknown) => {
    if (!(await isDirectory(path))) throw error;
  });
}

async function isDirectory(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
}

/** Rejects with what a path that cannot be used is to its user. @throws {@link FailureType} `ResourceExists`, `NotAuthorized` */
export async function orRefused<T>(path: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const code = String(codeOf(error));
    if (code === 'EBUSY') throw permanentFailure('ResourceExists', `${path} is in use (${code})`, error);
    if (['EACCES', 'EPERM', 'EROFS'].includes(code))
      throw permanentFailure('NotAuthorized', `${path} cannot be written (${code})`, error);
    if (['ENOENT', 'ENOTDIR', 'EISDIR', 'EEXIST', 'ELOOP', 'ENAMETOOLONG'].includes(code))
      throw permanentFailure('ResourceExists', `${path} is no place for it (${code})`, error);
    throw error;
  }
}
