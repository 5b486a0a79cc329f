/** A reserved static volume before its transfer, and when it is published or proved. */
import type { FileHandle } from 'node:fs/promises';
import { asyncLocalStorage } from '@temporalio/activity';
import { permanentFailure } from '../failures.js';
import { LOST_AND_FOUND } from '../image/archive/unpack-empty.js';
import type { NodeActivities } from '../interfaces.js';
import type { ReservedVolume } from '../types/local-volumes.js';
import { namesIn } from './directories.js';
import { attachAgain } from './loop-volumes.js';
import { takeTransferLock } from './transfer-lock.js';
import { bytesOf, describe, identityOf, openVolumeDevice, openVolumeTree } from './volume-path.js';
import {
  ensureTransferState,
  findTransferState,
  isAbout,
  readVolumeMarker,
  removeTransferState,
  writeVolumeMarker,
} from './volume-state.js';
import type { Permissions, VolumeContext, VolumeMarker } from './volume-state.js';

/** As a pool's directories: qemu (107) reads and writes, others may only pass. */
const VOLUME_MODE = 0o771;

type PrepareInput = Parameters<NodeActivities['prepareVolume']>[0];

/** See {@link NodeActivities.prepareVolume}. */
export async function prepareVolume(input: PrepareInput, context: VolumeContext): Promise<void> {
  const { volume } = input;
  const { stateDirectory, transferUser } = context;
  const { uid } = volume.dataVolume;
  const earlier = await forgetOthers(volume, context);
  await using state = await ensureTransferState(stateDirectory, uid, transferUser);
  // whoever still writes for an earlier run has the device open
  await using _ = await takeTransferLock(state, volume.dataVolume);
  await attachAgain(volume, context);
  await using opened = await (volume.volumeMode === 'Block'
    ? openVolumeDevice(volume)
    : openVolumeTree(volume));
  await refuseSmall(opened, input);
  const found = await readVolumeMarker(state);
  const handedOut = earlier && (await isHandedOut(opened, transferUser));
  const marker = await markerFor(opened, input, { found, before: handedOut ? earlier : undefined });
  // what was forgotten of an earlier run: a refusal must not lose the rest of it
  if (handedOut) await writeVolumeMarker(state, marker);
  if (!found?.begun && input.archive) await refuseFull(opened, volume);
  await writeVolumeMarker(state, marker);
  if (volume.volumeMode === 'Filesystem') await handOut(opened, transferUser);
}

async function markerFor(
  opened: FileHandle,
  { volume, archive }: PrepareInput,
  { found, before }: { readonly found: VolumeMarker | undefined; readonly before: Permissions | undefined },
): Promise<VolumeMarker> {
  const begun = found?.begun ?? false;
  const by = asyncLocalStorage.getStore()?.info.workflowExecution?.workflowId;
  const made = { createdAt: new Date().toISOString(), ...(by === undefined ? {} : { workflowId: by }) };
  if (volume.volumeMode === 'Block') {
    const { medium } = found ?? {};
    const written = medium === undefined ? {} : { medium };
    return { volume, archive, begun, ...made, device: await identityOf(opened), ...written };
  }
  return {
    volume,
    archive,
    begun,
    ...made,
    ...(found?.disk === undefined ? {} : { disk: found.disk }),
    before: found?.before ?? before ?? (await permissionsOf(opened)),
  };
}

async function permissionsOf(directory: FileHandle): Promise<Permissions> {
  const { uid, gid, mode } = await directory.stat();
  return { uid, gid, mode: mode & 0o7777 };
}

/** Whether the directory is still whose an earlier run made it; an archive may have set its mode. */
async function isHandedOut(directory: FileHandle, owner: VolumeContext['transferUser']): Promise<boolean> {
  const { uid, gid } = await permissionsOf(directory);
  return uid === owner?.uid && gid === owner.gid;
}

/** The child has no privileges, and no fsGroup need apply to the pod that will use the volume. */
async function handOut(directory: FileHandle, owner: VolumeContext['transferUser']): Promise<void> {
  if (!owner) return;
  await directory.chown(owner.uid, owner.gid);
  await directory.chmod(VOLUME_MODE);
}

/**
 * What an earlier run wrote into a volume that the DataVolume has lost since is only forgotten: whose its path is by now nobody here
 * knows, and a leftover is better than somebody's disk that is gone. So is an upload into a claim by another run: the claim's user may
 * have written to the disk since. The permissions that this volume had before all that are the answer.
 */
async function forgetOthers(
  volume: ReservedVolume,
  { stateDirectory }: VolumeContext,
): Promise<Permissions | undefined> {
  const { uid } = volume.dataVolume;
  const found = await findTransferState(stateDirectory, uid);
  if (!found) return undefined;
  await using state = found;
  await using _ = await takeTransferLock(state, volume.dataVolume);
  const marker = await readVolumeMarker(state);
  if (!marker || isAbout(marker, volume)) return undefined;
  await removeTransferState(stateDirectory, uid);
  return marker.volume.volumeUid === volume.volumeUid ? marker.before : undefined;
}

async function refuseSmall(opened: FileHandle, { volume, claim, requestBytes }: PrepareInput): Promise<void> {
  const bytes = await bytesOf(opened, volume);
  if (bytes >= requestBytes) return;
  throw permanentFailure(
    'VolumeTooSmall',
    `${describe(volume)} has ${bytes} bytes, PersistentVolume ${volume.volume} says ${volume.capacityBytes}, and claim ` +
      `${claim.namespace}/${claim.name} needs ${requestBytes}`,
  );
}

/** What an archive is unpacked into is emptied first: what is not ours would be lost. */
async function refuseFull(directory: FileHandle, volume: ReservedVolume): Promise<void> {
  const names = await namesIn(directory);
  if (names.every((name) => name === LOST_AND_FOUND)) return;
  const lost = `${describe(volume)} is not empty: what it holds would be lost`;
  // one that is filled in place for a Bound claim is not emptied where its run was ended: its user may have it by then
  const inPlace = volume.reservedAt === undefined;
  const cure = inPlace
    ? `; where an earlier upload into this claim that has ended left it, empty the volume (find ${volume.path} -mindepth 1 -delete, on ` +
      `node ${volume.node}) and begin the upload anew`
    : '';
  throw permanentFailure('ResourceExists', `${lost}${cure}`);
}
