import { constants, type Stats } from 'node:fs';
import { lstat, open, type FileHandle } from 'node:fs/promises';
import { permanentFailure } from '../failures.js';
import type { ResumeRecord } from '../image/resume-record.js';
import type { NodeActivities } from '../interfaces.js';
import type { ReservedDirectory, TransferResult } from '../types.js';
import { childPath, type Owner } from './directories.js';
import { readRecord } from './marker.js';
import { DISK, openPool, openVolumeDirectory, volumeName, type Pool } from './pool.js';
import type { NodeContext } from './reserve.js';

/** qemu and its group, nobody else. */
const DISK_MODE = 0o660;

/** A directory of a pool and the transfer that is to have filled it. */
type VerifyInput = Omit<Parameters<NodeActivities['verifyImage']>[0], 'directory'> & {
  readonly directory: ReservedDirectory;
};

/**
 * Proves that `disk.img` is the one that the transfer finished: ours, alone, of the size that was reported, and declared
 * complete by the resume record, which is written after the last sync. Of an archive the volume's directory must be ours, and the
 * record must vouch for as many bytes as were reported: what lies in it is the archive's.
 * @throws {@link FailureType} `ImageInvalid` naming the first thing that is wrong
 */
export async function verifyImage(input: VerifyInput, context: NodeContext): Promise<void> {
  const { directory, contentType } = input;
  const { node, transferUser } = context;
  await using pool = await openPool(directory.pool, context);
  const path = `${pool.path}/${directory.directory}`;
  const archive = contentType === 'archive';
  try {
    await (archive ? verifyDirectory(pool, input, transferUser) : verifyDisk(pool, input, transferUser));
    await verifyRecord(pool, input);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const what = archive ? path : `${path}/${DISK}`;
    throw permanentFailure('ImageInvalid', `${what} on node ${node}: ${reason}`, error);
  }
}

async function verifyDisk(
  pool: Pool,
  { directory, transferred }: VerifyInput,
  owner: Owner | undefined,
): Promise<void> {
  await using volume = await openVolumeDirectory(pool, directory.directory);
  await verifyFile(volume, transferred, owner);
}

/** `disk.img` in an open directory of a volume. @throws Error naming the first thing that is wrong */
export async function verifyFile(
  volume: FileHandle,
  transferred: TransferResult,
  owner: Owner | undefined,
): Promise<void> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  await using disk = await open(childPath(volume, DISK), flags);
  const [found, around] = await Promise.all([disk.stat(), volume.stat()]);
  const uid = uidOf(owner, found);
  const wrong = whatIsWrong(found, { size: transferred.diskBytes, uid, dev: around.dev });
  if (wrong) throw new Error(wrong);
}

/** Looked at from outside: the archive says who may open it. */
async function verifyDirectory(
  pool: Pool,
  { directory }: VerifyInput,
  owner: Owner | undefined,
): Promise<void> {
  const path = childPath(pool.root, volumeName(directory.directory));
  const [found, around] = await Promise.all([lstat(path), pool.root.stat()]);
  const uid = uidOf(owner, found);
  if (!found.isDirectory()) throw new Error('is not a directory');
  if (found.dev !== around.dev) throw new Error('is on another file system than its pool');
  if (found.uid !== uid) throw new Error(`belongs to uid ${found.uid}, expected ${uid}`);
}

function uidOf(owner: Owner | undefined, found: Stats): number {
  return owner?.uid ?? process.getuid?.() ?? found.uid;
}

async function verifyRecord(pool: Pool, { directory, transferred }: VerifyInput): Promise<void> {
  requireResult(await readRecord(pool, directory.dataVolume.uid), transferred);
}

/** @throws Error where the record does not vouch for this transfer */
export function requireResult(record: Partial<ResumeRecord> | undefined, transferred: TransferResult): void {
  const { result } = record ?? {};
  const same =
    result?.diskBytes === transferred.diskBytes &&
    result.format === transferred.format &&
    result.bytesWritten === transferred.bytesWritten;
  if (!same) throw new Error('the resume record does not say that the transfer is complete');
}

function whatIsWrong(
  found: Stats,
  { size, uid, dev }: { size: number; uid: number; dev: number },
): string | undefined {
  if (!found.isFile()) return 'is not a regular file';
  if (found.nlink !== 1) return `has ${found.nlink} links, expected 1`;
  if (found.dev !== dev) return 'is on another file system than its directory';
  if (found.size !== size) return `has ${found.size} bytes, the transfer wrote ${size}`;
  if (found.uid !== uid) return `belongs to uid ${found.uid}, expected ${uid}`;
  const mode = found.mode & 0o7777;
  if (mode !== DISK_MODE) return `has mode ${mode.toString(8)}, expected ${DISK_MODE.toString(8)}`;
  return undefined;
}
