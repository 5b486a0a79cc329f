import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { createAsyncDisposables } from '../disposables.js';
import { permanentFailure, transientFailure } from '../failures.js';
import type { ReservedVolume } from '../types/local-volumes.js';
import { takeTransferLock } from '../node/transfer-lock.js';
import { describe, identityOf, mediumOf, openVolumeDevice, openVolumeTree } from '../node/volume-path.js';
import {
  findTransferState,
  readVolumeMarker,
  writeVolumeMarker,
  type VolumeMarker,
} from '../node/volume-state.js';
import { createRecordStore } from './resume-record.js';
import { fileIdentity } from './target/target-identity.js';
import {
  openDisk,
  readRecordIn,
  type MadeDisk,
  type TargetOptions,
  type TransferTarget,
} from './transfer-target.js';

/** What {@link openReservedTarget} needs besides the volume. */
export interface ReservedTargetOptions extends TargetOptions {
  /** Where the node worker keeps what lies in no pool. */
  readonly stateDirectory: string;
  /** Nothing will be written to the device: whoever undoes this leaves it what it holds. @default false */
  readonly untouched?: boolean | undefined;
}

/**
 * Opens a reserved static volume for one attempt, as `openTransferTarget` opens a directory of a pool: a block device is held for
 * this process alone, in a directory the very file that an earlier attempt has made, or a new one.
 * @throws {@link FailureType} `ResourceExists` when the volume was not prepared for this DataVolume, or is in use; `ClaimLost` where the
 * path has another `disk.img` by now, or none, which is left as it is; retried: `NodeUnavailable` while an earlier attempt still writes,
 * or its path does not exist
 */
export async function openReservedTarget(
  volume: ReservedVolume,
  { owner, contentType, stateDirectory, untouched = false }: ReservedTargetOptions,
): Promise<TransferTarget> {
  const opened = createAsyncDisposables();
  try {
    const keep = <T extends AsyncDisposable>(handle: T): T => opened.use(handle);
    const found = await findTransferState(stateDirectory, volume.dataVolume.uid);
    if (!found) throw notPrepared(volume);
    const state = keep(found);
    const lock = keep(await takeTransferLock(state, volume.dataVolume));
    const marker = await readVolumeMarker(state);
    if (marker?.volume.volumeUid !== volume.volumeUid) throw notPrepared(volume);
    const disk =
      volume.volumeMode === 'Block'
        ? await openDevice(marker, { state, owner, untouched }, keep)
        : await openTree(marker, { state, owner, archive: contentType === 'archive' }, keep);
    const stack = opened.move();
    const readRecord = () => readRecordIn(state);
    return { ...disk, state, lock, readRecord, [Symbol.asyncDispose]: () => stack[Symbol.asyncDispose]() };
  } catch (error) {
    await opened[Symbol.asyncDispose]();
    throw error;
  }
}

type Keep = <T extends AsyncDisposable>(handle: T) => T;
type Opened = Pick<TransferTarget, 'file' | 'direct' | 'directory'>;

interface Around {
  /** The private directory of the transfer. */
  readonly state: FileHandle;
  readonly owner: TargetOptions['owner'];
}

async function openDevice(
  marker: VolumeMarker,
  { state, owner, untouched }: Around & { readonly untouched: boolean },
  keep: Keep,
): Promise<Opened> {
  const file = keep(await openVolumeDevice(marker.volume));
  const device = await identityOf(file);
  const medium = await mediumOf(file);
  // another device under the same path has none of what the record says, and may have the same number; where nothing told them
  // apart when it was written to, as at a worker of before, the number has to do
  const same = device === marker.device && (marker.medium === undefined || medium === marker.medium);
  if (!same) await forgetProgress(state, owner);
  const { medium: _, ...before } = marker;
  const found = { device, ...(medium === undefined ? {} : { medium }) };
  await writeVolumeMarker(state, { ...before, ...found, begun: marker.begun || !untouched });
  const { O_RDWR, O_DIRECT } = constants;
  const direct = await open(`/proc/self/fd/${file.fd}`, O_RDWR | O_DIRECT).catch(() => undefined);
  return { file, directory: state, ...(direct ? { direct: keep(direct) } : {}) };
}

async function openTree(
  marker: VolumeMarker,
  { state, owner, archive }: Around & { readonly archive: boolean },
  keep: Keep,
): Promise<Opened> {
  const directory = keep(await openVolumeTree(marker.volume));
  const begun = { ...marker, begun: true };
  if (archive) {
    await writeVolumeMarker(state, begun);
    return { directory };
  }
  const made = madeBefore(marker);
  if (!made) await writeVolumeMarker(state, begun);
  const disk = await openDisk({ directory, owner, record: await readRecordIn(state), made }, keep);
  // a worker of before has not said which file it made: the one that the record vouches for is taken, and known from now on
  const identity = disk.file && fileIdentity(disk.file.fd);
  if (!made && disk.file && identity !== undefined) {
    // a power cut must not take back what the marker speaks of
    await disk.file.sync();
    await directory.sync();
    await writeVolumeMarker(state, { ...begun, disk: identity });
  }
  return { ...disk, directory };
}

/** The path may be another volume's by now, of another tenant, whose `disk.img` bears the name of ours. */
function madeBefore({ volume, disk }: VolumeMarker): MadeDisk | undefined {
  if (disk === undefined) return undefined;
  const lost = (): Error =>
    permanentFailure(
      // of a Bound claim that is filled in place neither claim nor volume are lost
      volume.reservedAt === undefined ? 'ResourceExists' : 'ClaimLost',
      `${describe(volume)} does not hold the disk.img any more that was being filled: somebody has removed or replaced it meanwhile; ` +
        'what is there was not touched',
    );
  const absent = (): Error =>
    transientFailure(
      'NodeUnavailable',
      `${describe(volume)} does not hold the disk.img any more that was being filled: is its file system mounted?`,
    );
  return { identity: disk, lost, absent };
}

async function forgetProgress(state: FileHandle, owner: TargetOptions['owner']): Promise<void> {
  const { durable: _, result: __, reached: ___, ...record } = await readRecordIn(state);
  await createRecordStore(`/proc/self/fd/${state.fd}`, owner).save(record);
}

function notPrepared({ volume, node, dataVolume: { namespace, name } }: ReservedVolume): Error {
  return permanentFailure(
    'ResourceExists',
    `PersistentVolume ${volume} is published or was not prepared for DataVolume ${namespace}/${name} on node ${node}`,
  );
}
