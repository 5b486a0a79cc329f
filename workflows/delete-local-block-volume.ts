import { setCurrentDetails } from '@temporalio/workflow';
import { control, onNode } from './activity-options.js';

/** What was removed. */
export interface DeleteLocalBlockVolumeResult {
  /** There was something under this name. */
  readonly deleted: boolean;
}

/**
 * Removes a block volume that dvflow made: no claim can get it any more, then its device is detached and its file removed, then
 * the PersistentVolume. `node` finds the file of one whose PersistentVolume somebody has deleted.
 * @throws `ResourceExists` while it is bound, reserved or in use, and for volumes that dvflow did not make
 */
export async function deleteLocalBlockVolume(input: {
  name: string;
  node?: string;
}): Promise<DeleteLocalBlockVolumeResult> {
  const { volume } = await control.retireLocalVolume(input);
  if (!volume) return { deleted: false };
  const { name, uid, node, pool } = volume;
  setCurrentDetails(`removing the device of volume ${name} on node ${node}`);
  const removed = await onNode(node).removeLoopVolume({ name, ...(pool === undefined ? {} : { pool }) });
  if (uid === undefined) return { deleted: removed?.found ?? true };
  await control.deleteVolume({ name, uid });
  return { deleted: true };
}
