import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { asyncLocalStorage } from '@temporalio/activity';
import { permanentFailure } from '../failures.js';
import { emptyVolume } from '../image/archive/unpack-empty.js';
import { blockDeviceSize } from '../image/block-device.js';
import { fileIdentity } from '../image/target/target-identity.js';
import { zeroRange } from '../image/target/zero-range.js';
import type { ReservedVolume } from '../types/local-volumes.js';
import { childPath, codeOf } from './directories.js';
import { attachAgain } from './loop-volumes.js';
import { O_PATH } from './place.js';
import { DISK } from './pool.js';
import { removeTree } from './remove-tree.js';
import { takeTransferLock } from './transfer-lock.js';
import { describe, identityOf, openTreeToUndo, openVolumeDevice, openVolumeTree } from './volume-path.js';
import {
  findTransferState,
  isAbout,
  readVolumeMarker,
  removeTransferState,
  writeVolumeMarker,
  type VolumeContext,
  type VolumeMarker,
} from './volume-state.js';

/** A device that must write its zeros takes seconds for so many bytes: often enough for a heartbeat. */
const PIECE = 1024 ** 3;

/**
 * Removes what a transfer wrote into a reserved volume, gives its directory the permissions that it had, and forgets the transfer.
 * A volume that no transfer has opened keeps what it holds, and so do one that a later run has prepared and one that the DataVolume
 * has got since the transfer: its path may have been somebody else's in between. Absent is success.
 * @throws {@link FailureType} `ResourceExists` while the device is in use, and where the path leads to another device than the one that
 * was written to, or holds another `disk.img`; retried: `NodeUnavailable` while its path does not exist
 */
export async function emptyReservedVolume(
  { volume }: { volume: ReservedVolume },
  context: VolumeContext,
): Promise<void> {
  const { stateDirectory } = context;
  const { dataVolume } = volume;
  const found = await findTransferState(stateDirectory, dataVolume.uid);
  if (!found) return;
  await using state = found;
  await using _ = await takeTransferLock(state, dataVolume);
  const marker = await readVolumeMarker(state);
  if (marker && (!isAbout(marker, volume) || isOfLaterRun(marker.volume, volume))) return;
  if (marker) {
    // first, and for good: a retry that finds this half done must not go on over zeros
    await removeTree(state, 'record.json');
    await state.sync();
    await undo(marker, context, state);
  }
  // under the lock: who waits for it finds nothing of before, and no name to write under
  await removeTransferState(stateDirectory, dataVolume.uid);
}

/** A retry has taken the volume over and prepared it, while this attempt waited for its turn: what is in it by now is the retry's. */
function isOfLaterRun(prepared: ReservedVolume, asked: ReservedVolume): boolean {
  const [at, than] = [prepared.reservedAt, asked.reservedAt];
  if (at === undefined || than === undefined) return false;
  // a retry that ended before it prepared the volume asks for what the run before it has written
  return asked.tenure === undefined ? at !== than : Date.parse(at) > Date.parse(than);
}

async function undo(marker: VolumeMarker, context: VolumeContext, state: FileHandle): Promise<void> {
  const { volume, begun } = marker;
  if (volume.volumeMode === 'Filesystem') return await undoDirectory(marker, state);
  if (!begun) return;
  await attachAgain(volume, context);
  await using device = await openVolumeDevice(volume);
  await refuseOther(device, marker);
  await zeroDevice(device);
}

/** A name such as `/dev/loop10` belongs to another device after a reboot, and that one's bytes are somebody's. */
async function refuseOther(device: FileHandle, { volume, device: written }: VolumeMarker): Promise<void> {
  if (written === undefined) return;
  const found = await identityOf(device);
  if (found === written) return;
  throw permanentFailure(
    'ResourceExists',
    `${describe(volume)} is ${found} now, and the transfer wrote to ${written}: it is not emptied; give the path its device back, or ` +
      'delete the PersistentVolume',
  );
}

async function undoDirectory(marker: VolumeMarker, state: FileHandle): Promise<void> {
  const { volume, archive, begun, before } = marker;
  // a path that is not mounted any more leads into the container, where nothing was written: what was waits for its mount
  await using directory = await (begun ? openVolumeTree(volume) : openTreeToUndo(volume));
  if (begun && archive)
    await emptyVolume(directory, { device: (await directory.stat({ bigint: true })).dev });
  else if (begun) await removeDisk(directory, marker, state);
  if (before && process.getuid?.() === 0) {
    await directory.chown(before.uid, before.gid);
    await directory.chmod(before.mode);
  }
  await directory.sync();
}

/** A worker of before has not said which file it made: whatever bears the name goes. */
async function removeDisk(directory: FileHandle, marker: VolumeMarker, state: FileHandle): Promise<void> {
  const { disk: made, ...left } = marker;
  if (made !== undefined) {
    const found = await findDisk(directory);
    if (found !== undefined && found !== made) throw anotherDisk(marker);
  }
  await removeTree(directory, DISK);
  if (made === undefined) return;
  await directory.sync();
  // an attempt after what ends half-way here makes the file anew, and does not miss it
  await writeVolumeMarker(state, left);
}

async function findDisk(directory: FileHandle): Promise<string | undefined> {
  const file = await open(childPath(directory, DISK), O_PATH | constants.O_NOFOLLOW).catch(
    (error: unknown) => {
      if (codeOf(error) === 'ENOENT') return undefined;
      throw error;
    },
  );
  if (!file) return undefined;
  await using opened = file;
  return fileIdentity(opened.fd);
}

/** Two volumes may have one path, and its `disk.img` is the other one's tenant's by now. */
function anotherDisk({ volume }: VolumeMarker): Error {
  return permanentFailure(
    'ResourceExists',
    `${describe(volume)} holds another disk.img than the transfer made: it is not removed; put it elsewhere, or delete the PersistentVolume`,
  );
}

/** Goes on where an earlier attempt was when it died. */
async function zeroDevice(device: FileHandle): Promise<void> {
  const context = asyncLocalStorage.getStore();
  const signal = context?.cancellationSignal ?? new AbortController().signal;
  const details: unknown = context?.info.heartbeatDetails;
  const bytes = blockDeviceSize(device.fd);
  for (let at = typeof details === 'number' ? details : 0; at < bytes; at += PIECE) {
    await zeroRange(device.fd, [at, Math.min(at + PIECE, bytes)], { signal });
    // what is told must be on the device
    await device.sync();
    context?.heartbeat(at + PIECE);
  }
}
