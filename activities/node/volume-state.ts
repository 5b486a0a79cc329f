/**
 * What a node worker knows about the static volumes that it fills: one private directory a DataVolume, below the worker's own state
 * directory, since nothing of it may lie in a user's volume. The resume record of a transfer is in there, and the marker that says
 * which volume it is about.
 */
import { constants } from 'node:fs';
import { mkdir, open, type FileHandle } from 'node:fs/promises';
import type { ReservedVolume } from '../types/local-volumes.js';
import {
  ensureDirectory,
  findDirectory,
  namesIn,
  readJson,
  removeFile,
  writeJson,
  type Owner,
} from './directories.js';
import { removeTree } from './remove-tree.js';
import type { NodeContext } from './reserve.js';

/** Where a node worker keeps what lies in no pool, unless it is told otherwise. */
export const STATE_DIRECTORY = '/var/lib/dvflow';
/** Where the links to loop devices are, unless the worker is told otherwise; devtmpfs is empty after a reboot. */
export const DEVICE_DIRECTORY = '/dev/dvflow';

const MARKER = 'reserved.json';

/** The node that works, and where it keeps what lies in no pool. */
export interface VolumeContext extends NodeContext {
  /** Survives a reboot: `/var/lib/dvflow`. */
  readonly stateDirectory: string;
  /**
   * Holds a link to each loop device of ours, under the name of its volume: `/dev/dvflow`. It must not survive a reboot: the numbers
   * that the links name belong to other volumes then, until the devices are made again.
   */
  readonly deviceDirectory: string;
}

/** Owner and mode of a directory. */
export interface Permissions {
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}

/** What is known about a volume that is being filled. */
export interface VolumeMarker {
  readonly volume: ReservedVolume;
  /** What is unpacked or written: decides how it is emptied. */
  readonly archive: boolean;
  /** What the path led to: see `identityOf`. Absent for a directory. */
  readonly device?: string;
  /** What a transfer wrote to: see `mediumOf`. Absent before, and where nothing tells. */
  readonly medium?: string;
  /** Which `disk.img` a transfer made: see `fileIdentity`. Absent before, where a worker of before did, and once it is being emptied. */
  readonly disk?: string;
  /** Permissions that the volume's directory had before. */
  readonly before?: Permissions;
  /** A transfer has opened the volume: what it holds is no longer what it held. */
  readonly begun: boolean;
  /** Who prepared it last, and when, in ISO 8601; absent where a worker of before did. */
  readonly workflowId?: string;
  readonly createdAt?: string;
}

/** Opens a directory of the worker's state, and makes it where it is missing. */
export async function openState(stateDirectory: string, name: 'transfers' | 'block'): Promise<FileHandle> {
  await mkdir(stateDirectory, { recursive: true, mode: 0o755 });
  await using root = await open(stateDirectory, constants.O_RDONLY | constants.O_DIRECTORY);
  // others may pass through: the transfer user to a directory of its own
  return await ensureDirectory(root, name, { mode: 0o711 });
}

/** The private directory of a DataVolume's transfer, made where it is missing. */
export async function ensureTransferState(
  stateDirectory: string,
  uid: string,
  owner: Owner | undefined,
): Promise<FileHandle> {
  await using transfers = await openState(stateDirectory, 'transfers');
  const state = await ensureDirectory(transfers, uid, { mode: 0o700, owner });
  await transfers.sync();
  return state;
}

/** The private directory of a DataVolume's transfer, or `undefined` where there is none. */
export async function findTransferState(
  stateDirectory: string,
  uid: string,
): Promise<FileHandle | undefined> {
  await using transfers = await openState(stateDirectory, 'transfers');
  return await findDirectory(transfers, uid);
}

/** The marker in an open private directory, or `undefined` where there is none. @throws Error for one that cannot be read */
export async function readVolumeMarker(state: FileHandle): Promise<VolumeMarker | undefined> {
  const value = await readJson(state, MARKER);
  if (value === undefined) return undefined;
  const marker = value as Partial<VolumeMarker>;
  if (!marker.volume?.volumeUid || typeof marker.begun !== 'boolean')
    throw new Error(`marker is not readable: ${JSON.stringify(value)}`);
  return value as VolumeMarker;
}

/** Whether a marker is about this volume in the time for which it is held now: before that, it was somebody else's. */
export function isAbout({ volume: known }: VolumeMarker, { volumeUid, tenure }: ReservedVolume): boolean {
  return known.volumeUid === volumeUid && (tenure === undefined || known.tenure === tenure);
}

/** Writes the marker. */
export async function writeVolumeMarker(state: FileHandle, marker: VolumeMarker): Promise<void> {
  await writeJson(state, MARKER, marker);
}

/** Forgets a transfer. The marker goes last, so that a removal which died half-way is finished by the next. */
export async function removeTransferState(stateDirectory: string, uid: string): Promise<void> {
  await using transfers = await openState(stateDirectory, 'transfers');
  const found = await findDirectory(transfers, uid);
  if (!found) return;
  {
    await using state = found;
    for (const name of await namesIn(state)) if (name !== MARKER) await removeTree(state, name);
    await state.sync();
    await removeFile(state, MARKER);
    await state.sync();
  }
  await removeTree(transfers, uid);
}
