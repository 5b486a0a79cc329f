/** What a node still knows of transfers into static volumes whose runs are over, for the sweeper. */
import { existsSync } from 'node:fs';
import type { UnpublishedItem } from '../types.js';
import { namesIn } from './directories.js';
import { takeTransferLock } from './transfer-lock.js';
import {
  findTransferState,
  openState,
  readVolumeMarker,
  removeTransferState,
  type VolumeContext,
  type VolumeMarker,
} from './volume-state.js';
import { warn } from './warn.js';

/** One item for each transfer; those that a worker of before prepared do not say whose they are, and go with the next use. */
export async function listTransferLeaks(context: VolumeContext): Promise<readonly UnpublishedItem[]> {
  const { stateDirectory } = context;
  // a worker that never filled such a volume may not be able to make the directory
  if (!existsSync(`${stateDirectory}/transfers`)) return [];
  await using transfers = await openState(stateDirectory, 'transfers');
  const items: UnpublishedItem[] = [];
  for (const uid of await namesIn(transfers)) {
    const marker = await findMarker(uid, context).catch((error: unknown) => {
      warn('marker cannot be read', { records: `${stateDirectory}/transfers`, name: uid, error });
      return undefined;
    });
    if (marker) items.push(...itemOf(marker, context));
  }
  return items;
}

/** Forgets a transfer, if nobody has prepared its volume since it was judged. What lies in the volume stays. */
export async function removeTransferLeak(
  item: UnpublishedItem,
  { stateDirectory }: VolumeContext,
): Promise<void> {
  const { dataVolume, workflowId, createdAt } = item;
  const found = await findTransferState(stateDirectory, dataVolume.uid);
  if (!found) return;
  await using state = found;
  await using _ = await takeTransferLock(state, dataVolume);
  const marker = await readVolumeMarker(state);
  if (marker?.workflowId !== workflowId || marker.createdAt !== createdAt) return;
  await removeTransferState(stateDirectory, dataVolume.uid);
}

async function findMarker(uid: string, { stateDirectory }: VolumeContext): Promise<VolumeMarker | undefined> {
  await using state = await findTransferState(stateDirectory, uid);
  const marker = state && (await readVolumeMarker(state));
  return marker?.volume.dataVolume.uid === uid ? marker : undefined;
}

function itemOf(
  { volume: { dataVolume, volumeUid }, workflowId, createdAt }: VolumeMarker,
  { node }: VolumeContext,
): readonly UnpublishedItem[] {
  if (workflowId === undefined || createdAt === undefined) return [];
  const { uid: name } = dataVolume;
  return [
    { kind: 'TransferState', where: node, name, objectUid: volumeUid, dataVolume, workflowId, createdAt },
  ];
}
