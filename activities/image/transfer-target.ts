import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { createAsyncDisposables } from '../disposables.js';
import { permanentFailure } from '../failures.js';
import { childPath, codeOf, exists, findDirectory, type Owner } from '../node/directories.js';
import { markerIn } from '../node/marker.js';
import { DISK, openPool, openVolumeDirectory } from '../node/pool.js';
import { removeTree } from '../node/remove-tree.js';
import { takeTransferLock } from '../node/transfer-lock.js';
import type { ContentType, ReservedDirectory } from '../types.js';
import { createRecordStore, type ResumeRecord } from './resume-record.js';
import { fileIdentity } from './target/target-identity.js';

const DISK_MODE = 0o660;

/** A volume held open for one attempt; nobody else writes to it while it is. */
export interface TransferTarget extends AsyncDisposable {
  /** `disk.img`, or the block device; absent for an archive, which is unpacked into the directory. */
  readonly file?: FileHandle;
  /** The same file with O_DIRECT, where the file system has it. */
  readonly direct?: FileHandle;
  /** The volume's directory; of a block device that of the resume record. */
  readonly directory: FileHandle;
  /** Directory of the resume record. */
  readonly state: FileHandle;
  /** Locked; a child that inherits it keeps the lock alive as long as it lives. */
  readonly lock: FileHandle;
  /** The record as it is now; read again after the child has ended. */
  readRecord(): Promise<ResumeRecord>;
}

/** What is put into a volume, and whose it will be. */
export interface TargetOptions {
  /** Absent: the worker's own user's. */
  readonly owner?: Owner | undefined;
  /** @default 'kubevirt' */
  readonly contentType?: ContentType | undefined;
  /** Where the node remembers pools. */
  readonly memory?: string | undefined;
}

/**
 * Opens the target of one attempt: takes the lock first, then the file that the record vouches for, or a new one. For an archive
 * no file is made, and what an earlier attempt unpacked is left to the one that unpacks anew.
 * @throws {@link FailureType} `ResourceExists` when the directory is published or another's, and nothing was touched; retried:
 * `NodeUnavailable` while an earlier attempt still writes
 */
export async function openTransferTarget(
  reserved: ReservedDirectory,
  { owner, contentType, memory }: TargetOptions = {},
): Promise<TransferTarget> {
  const opened = createAsyncDisposables();
  try {
    const keep = <T extends AsyncDisposable>(handle: T): T => opened.use(handle);
    const pool = keep(await openPool(reserved.pool, { node: reserved.node, memory }));
    const found = await findDirectory(pool.books, reserved.dataVolume.uid);
    if (!found) throw notOurs(reserved);
    const state = keep(found);
    const lock = keep(await takeTransferLock(state, reserved.dataVolume));
    await refuseOthers(state, reserved);
    const readRecord = async (): Promise<ResumeRecord> => await readRecordIn(state);
    const directory = keep(await openVolumeDirectory(pool, reserved.directory));
    const disk =
      contentType === 'archive' ? {} : await openDisk({ directory, owner, record: await readRecord() }, keep);
    const stack = opened.move();
    return {
      ...disk,
      directory,
      state,
      lock,
      readRecord,
      [Symbol.asyncDispose]: () => stack[Symbol.asyncDispose](),
    };
  } catch (error) {
    await opened[Symbol.asyncDispose]();
    throw error;
  }
}

/** The record in an open private directory; one that cannot be read counts as none. */
export async function readRecordIn(state: FileHandle): Promise<ResumeRecord> {
  return await createRecordStore(`/proc/self/fd/${state.fd}`).load();
}

/** Where `disk.img` lies, whose it will be, and what is known of it. */
export interface DiskPlace {
  readonly directory: FileHandle;
  readonly owner: Owner | undefined;
  readonly record: ResumeRecord;
  /** The very file that an earlier attempt has made: no other one is opened, and none is made in its place. */
  readonly made?: MadeDisk | undefined;
}

/** A file that was made by an earlier attempt. */
export interface MadeDisk {
  /** See `fileIdentity`. */
  readonly identity: string;
  /** What is wrong where another file is in its place. */
  lost(): Error;
  /** What is wrong where none is. */
  absent(): Error;
}

/**
 * Opens the file that was made before, or the one that the record vouches for, or makes a new one.
 * @throws what {@link MadeDisk} says, and has touched nothing then
 */
export async function openDisk(
  { directory, owner, record, made }: DiskPlace,
  keep: <T extends AsyncDisposable>(handle: T) => T,
): Promise<Pick<TransferTarget, 'file' | 'direct'>> {
  const vouched = made ?? record.durable ?? record.result;
  const found = vouched ? await openExisting(directory, made !== undefined) : undefined;
  const trusted = found && keep(found);
  if (made && !trusted && !(await exists(directory, DISK))) throw made.absent();
  if (made && (!trusted || fileIdentity(trusted.fd) !== made.identity)) throw made.lost();
  const file = trusted ?? keep(await createDisk(directory));
  if (!trusted) await giveTo(owner, file);
  const direct = await openDirect(directory, file);
  return { file, ...(direct ? { direct: keep(direct) } : {}) };
}

/** A late or reset attempt must not replace a disk that is somebody's by now: only the marker says that it is not. */
async function refuseOthers(state: FileHandle, reserved: ReservedDirectory): Promise<void> {
  const marker = await markerIn(state);
  const ours = marker?.directory === reserved.directory && marker.dataVolume.uid === reserved.dataVolume.uid;
  if (!ours) throw notOurs(reserved);
}

function notOurs({ node, pool, directory }: ReservedDirectory): Error {
  return permanentFailure(
    'ResourceExists',
    `directory ${pool}/${directory} on node ${node} is published or not this DataVolume's`,
  );
}

/** Errors that tell that a path has no such file; all others tell nothing of it. */
const NO_SUCH_FILE = ['ENOENT', 'ELOOP', 'EISDIR', 'ENXIO'];

/**
 * The file of an earlier attempt, if it is still just that: one regular file on the volume's own file system. Where it `must` be there,
 * a disk that fails is no answer.
 */
async function openExisting(directory: FileHandle, must: boolean): Promise<FileHandle | undefined> {
  const { O_RDWR, O_NOFOLLOW, O_NONBLOCK } = constants;
  const file = await open(childPath(directory, DISK), O_RDWR | O_NOFOLLOW | O_NONBLOCK).catch(
    (error: unknown) => {
      if (must && !NO_SUCH_FILE.includes(String(codeOf(error)))) throw error;
      return undefined;
    },
  );
  if (!file) return undefined;
  const [found, around] = await Promise.all([file.stat(), directory.stat()]);
  if (found.isFile() && found.nlink === 1 && found.dev === around.dev) return file;
  await file.close();
  return undefined;
}

/** A new empty file; whatever bears the name is unlinked, not written to. */
async function createDisk(directory: FileHandle): Promise<FileHandle> {
  await removeTree(directory, DISK);
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  return await open(childPath(directory, DISK), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, DISK_MODE);
}

async function giveTo(owner: Owner | undefined, file: FileHandle): Promise<void> {
  await file.chmod(DISK_MODE);
  if (owner) await file.chown(owner.uid, owner.gid);
}

/** A second description of the very same file; file systems without O_DIRECT say EINVAL. */
async function openDirect(directory: FileHandle, file: FileHandle): Promise<FileHandle | undefined> {
  const { O_RDWR, O_NOFOLLOW, O_DIRECT } = constants;
  try {
    const direct = await open(childPath(directory, DISK), O_RDWR | O_NOFOLLOW | O_DIRECT);
    const [one, other] = await Promise.all([file.stat(), direct.stat()]);
    if (one.ino === other.ino && one.dev === other.dev) return direct;
    await direct.close();
    return undefined;
  } catch (error) {
    if (codeOf(error) === 'EINVAL') return undefined;
    throw error;
  }
}
