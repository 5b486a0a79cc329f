import { failureTypeOf, permanentFailure } from '../failures.js';
import type { ResumeRecord } from '../image/resume-record.js';
import type { NodeActivities } from '../interfaces.js';
import type { ReservedVolume } from '../types/local-volumes.js';
import { readJson } from './directories.js';
import { requireResult, verifyFile } from './verify.js';
import { bytesOf, describe, identityOf, openVolumeDevice, openVolumeTree } from './volume-path.js';
import {
  findTransferState,
  readVolumeMarker,
  type VolumeContext,
  type VolumeMarker,
} from './volume-state.js';

type VerifyInput = Omit<Parameters<NodeActivities['verifyImage']>[0], 'directory'> & {
  readonly volume: ReservedVolume;
};

type VerifyContext = Omit<VolumeContext, 'deviceDirectory'>;

/**
 * Proves that a reserved volume holds what the transfer finished: of a device, that it is the one which was written, and has room for
 * the disk; in a directory `disk.img`, as in a pool's. The resume record must vouch for it.
 * @throws {@link FailureType} `ImageInvalid` naming the first thing that is wrong
 */
export async function verifyReserved(input: VerifyInput, context: VerifyContext): Promise<void> {
  const { volume, transferred } = input;
  try {
    const found = await findTransferState(context.stateDirectory, volume.dataVolume.uid);
    if (!found) throw new Error('nothing is known of its transfer');
    await using state = found;
    const marker = await readVolumeMarker(state);
    if (marker?.volume.volumeUid !== volume.volumeUid)
      throw new Error('the transfer was into another volume');
    await (volume.volumeMode === 'Block' ? verifyDevice(input, marker) : verifyTree(input, context));
    const record = (await readJson(state, 'record.json')) as Partial<ResumeRecord> | undefined;
    requireResult(record, transferred);
  } catch (error) {
    // in use, or a path that is missing just now: said as it is
    if (failureTypeOf(error)) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw permanentFailure('ImageInvalid', `${describe(volume)}: ${reason}`, error);
  }
}

async function verifyDevice({ volume, transferred }: VerifyInput, marker: VolumeMarker): Promise<void> {
  await using device = await openVolumeDevice(volume);
  const bytes = await bytesOf(device, volume);
  if (bytes < transferred.diskBytes)
    throw new Error(`has ${bytes} bytes, the transfer wrote ${transferred.diskBytes}`);
  const identity = await identityOf(device);
  if (identity !== marker.device) throw new Error(`is ${identity}, the transfer wrote to ${marker.device}`);
}

async function verifyTree(
  { volume, transferred, contentType }: VerifyInput,
  context: VerifyContext,
): Promise<void> {
  await using directory = await openVolumeTree(volume);
  if (contentType !== 'archive') return await verifyFile(directory, transferred, context.transferUser);
  const { uid } = await directory.stat();
  const expected = context.transferUser?.uid ?? process.getuid?.() ?? uid;
  if (uid !== expected) throw new Error(`belongs to uid ${uid}, expected ${expected}`);
}
