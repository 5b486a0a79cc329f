/**
 * Block volumes over files of a pool: `<pool>/block-<name>/disk.img`, a promise of its size, a loop device, and a link to that
 * device whose path stays the same (loop numbers do not outlive a reboot).
 */
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { dirname, basename } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { permanentFailure, transientFailure } from '../failures.js';
import type { LoopVolume, RemoveLoopVolume } from '../types/local-volumes.js';
import { childPath, exists, findDirectory, undefinedIfAbsent } from './directories.js';
import { withPoolLock } from './lock.js';
import {
  attachLoopDevice,
  detachLoopDevice,
  findLoopDevices,
  loopDeviceBytes,
  type LoopDevice,
} from './loop-device.js';
import {
  linkDevice,
  linkPath,
  listLoopRecords,
  readLoopRecord,
  removeLoopRecord,
  unlinkDevice,
  writeLoopRecord,
  type LoopRecord,
} from './loop-record.js';
import { DISK, findPool, type Pool } from './pool.js';
import { removePromises } from './promises.js';
import { removeTree } from './remove-tree.js';
import { openVolumeDevice, type VolumePath } from './volume-path.js';
import type { VolumeContext } from './volume-state.js';

/** A device that was told to go and that nobody has open is gone at once; this is for whoever was just looking. */
const GONE_MS = 5000;

/** Name of a block volume's directory under the pool. */
export function loopDirectory(name: string): string {
  return `block-${name}`;
}

/** Opens the file behind a volume, if it is still just that; `undefined` where there is none. */
export async function findBackingFile(pool: Pool, name: string): Promise<FileHandle | undefined> {
  const found = await findDirectory(pool.root, loopDirectory(name));
  if (!found) return undefined;
  await using directory = found;
  const { O_RDWR, O_NOFOLLOW, O_NONBLOCK } = constants;
  const file = await open(childPath(directory, DISK), O_RDWR | O_NOFOLLOW | O_NONBLOCK).catch(
    undefinedIfAbsent,
  );
  if (!file) return undefined;
  const { nlink, ...stats } = await file.stat().then((s) => ({ nlink: s.nlink, plain: s.isFile() }));
  if (stats.plain && nlink === 1) return file;
  await file.close();
  throw permanentFailure('ResourceExists', `${pool.path}/${loopDirectory(name)}/${DISK} is not a plain file`);
}

/** Opens the file behind a volume. @throws {@link FailureType} retried: `NodeUnavailable` where it is missing */
export async function openBackingFile(
  pool: Pool,
  name: string,
  { node }: VolumeContext,
): Promise<FileHandle> {
  const file = await findBackingFile(pool, name);
  if (file) return file;
  throw transientFailure(
    'NodeUnavailable',
    `file ${pool.path}/${loopDirectory(name)}/${DISK} of volume ${name} is missing on node ${node}`,
    { nextRetryDelayMs: 10_000 },
  );
}

/** Makes the device of a record and its link, or finds them. The pool's lock is held. */
export async function attachIn(
  pool: Pool,
  { name, bytes }: LoopRecord,
  context: VolumeContext,
): Promise<LoopVolume> {
  await using file = await openBackingFile(pool, name, context);
  const device = await attachLoopDevice(file);
  const real = await loopDeviceBytes(device);
  if (real !== bytes)
    throw permanentFailure(
      'VolumeTooSmall',
      `${device.device} of volume ${name} on node ${context.node} has ${real} bytes, expected ${bytes}`,
    );
  await linkDevice(context, name, device.device);
  return { path: linkPath(context, name), bytes: real, directIo: device.directIo };
}

/** Makes the device of a volume of ours anew where it is missing; any other volume is left as it is. */
export async function attachAgain({ path, volume }: VolumePath, context: VolumeContext): Promise<void> {
  if (dirname(path) !== context.deviceDirectory) return;
  const record = await readLoopRecord(context, basename(path));
  if (record?.complete && record.name === volume) await attachRecord(record, context);
}

/** A volume whose device cannot be made, and why. */
export interface LoopFailure {
  readonly name: string;
  readonly error: unknown;
}

/** Pools in which block volumes lie, and the volumes of which nobody can tell where they do. */
export async function listLoopPools(context: VolumeContext): Promise<{
  readonly pools: readonly string[];
  readonly unreadable: readonly LoopFailure[];
}> {
  const { records, unreadable } = await listLoopRecords(context);
  return {
    pools: [...new Set(records.filter(({ complete }) => complete).map(({ pool }) => pool))],
    unreadable,
  };
}

/** Makes every device of a pool that is missing, as after a reboot; which could not be made, and why. */
export async function attachLoopVolumes(
  pool: string,
  context: VolumeContext,
): Promise<readonly LoopFailure[]> {
  const { records } = await listLoopRecords(context);
  const failed: LoopFailure[] = [];
  for (const record of records.filter(({ complete, pool: path }) => complete && path === pool))
    await attachRecord(record, context).catch((error: unknown) => {
      failed.push({ name: record.name, error });
    });
  return failed;
}

async function attachRecord(record: LoopRecord, context: VolumeContext): Promise<void> {
  await using pool = await openBooked(record, context);
  await withPoolLock(pool, () => attachIn(pool, record, context));
}

/** Without its books the pool's file system is not mounted (yet). */
async function openBooked(
  { name, pool: path }: Pick<LoopRecord, 'name' | 'pool'>,
  context: VolumeContext,
): Promise<Pool> {
  const pool = await findPool(path, context);
  if (pool) return pool;
  throw transientFailure(
    'NodeUnavailable',
    `pool ${path} of volume ${name} on node ${context.node} has no .dvflow: is its file system mounted?`,
    { nextRetryDelayMs: 10_000 },
  );
}

/**
 * See {@link NodeActivities.removeLoopVolume}: the device, then the data, then the promise, then what is remembered. Without a record
 * the volume is looked for in `pool`.
 */
export async function removeLoopVolume(
  { name, pool: told, madeBy }: RemoveLoopVolume,
  context: VolumeContext,
): Promise<{ readonly found: boolean }> {
  const remembered = await readLoopRecord(context, name);
  const path = remembered?.pool ?? (madeBy === undefined ? told : undefined);
  if (path === undefined) return { found: false };
  await using pool = await openBooked({ name, pool: path }, context);
  return await withPoolLock(pool, async () => {
    const record = await readLoopRecord(context, name);
    if (madeBy !== undefined && !(record && (await isLastMaker(record, madeBy, context))))
      return { found: false };
    const found = record !== undefined || (await exists(pool.root, loopDirectory(name)));
    await detach(pool, name, context);
    await unlinkDevice(context, name);
    await removeTree(pool.root, loopDirectory(name));
    await pool.root.sync();
    await removePromises(pool, loopDirectory(name));
    await removeLoopRecord(context, name);
    return { found };
  });
}

/** A run that goes leaves the volume to the others that found it made: their PersistentVolume names its device. */
async function isLastMaker(record: LoopRecord, madeBy: string, context: VolumeContext): Promise<boolean> {
  const makers = record.makers.filter(({ runId }) => runId !== madeBy);
  if (makers.length === record.makers.length) return false;
  if (makers.length === 0) return true;
  await writeLoopRecord(context, { ...record, makers });
  return false;
}

async function detach(pool: Pool, name: string, { node }: VolumeContext): Promise<void> {
  const found = await findBackingFile(pool, name);
  if (!found) return;
  await using file = found;
  for (const device of await findLoopDevices(file)) {
    await refuseUsed(device, { volume: name, node, path: device.device, volumeMode: 'Block' });
    await detachLoopDevice(device);
  }
  for (const end = Date.now() + GONE_MS; (await findLoopDevices(file)).length > 0; await pause(100)) {
    if (Date.now() > end)
      throw transientFailure('NodeUnavailable', `the device of volume ${name} on node ${node} is still open`);
  }
}

/** The exclusive open refuses mounts and mappings, and looks for the loop devices of pods. */
async function refuseUsed(_: LoopDevice, volume: VolumePath): Promise<void> {
  await using device = await openVolumeDevice(volume);
  await device.stat();
}
