import { constants, type Stats } from 'node:fs';
import { open } from 'node:fs/promises';
import { permanentFailure } from '../failures.js';
import type { NodeActivities } from '../interfaces.js';
import { childPath } from './directories.js';
import { readRecord } from './marker.js';
import { DISK, openPool, openVolumeDirectory } from './pool.js';
import type { NodeContext } from './reserve.js';

/** qemu and its group, nobody else. */
const DISK_MODE = 0o660;

/**
 * Proves that `disk.img` is the one that the transfer finished: ours, alone, of the size that was reported, and declared
 * complete by the resume record, which is written after the last sync.
 * @throws {@link FailureType} `ImageInvalid` naming the first thing that is wrong
 */
export async function verifyImage(
  { directory, transferred }: Parameters<NodeActivities['verifyImage']>[0],
  { node, transferUser }: NodeContext,
): Promise<void> {
  await using pool = await openPool(directory.pool, node);
  const path = `${pool.path}/${directory.directory}/${DISK}`;
  try {
    await using volume = await openVolumeDirectory(pool, directory.directory);
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    await using disk = await open(childPath(volume, DISK), flags);
    const [found, around] = await Promise.all([disk.stat(), volume.stat()]);
    const uid = transferUser?.uid ?? process.getuid?.() ?? found.uid;
    const wrong = whatIsWrong(found, { size: transferred.diskBytes, uid, dev: around.dev });
    if (wrong) throw new Error(wrong);
    const record = await readRecord(pool, directory.dataVolume.uid);
    if (record?.result?.diskBytes !== transferred.diskBytes) {
      throw new Error('the resume record does not say that the transfer is complete');
    }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw permanentFailure('ImageInvalid', `${path} on node ${node}: ${reason}`, error);
  }
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
