import { setCurrentDetails } from '@temporalio/workflow';
import { cleaningUp, control } from './activity-options.js';
import { requireArgument } from './arguments.js';
import { nodeFailure } from './silent-node.js';

/** What was removed. */
export interface DeleteLocalBlockVolumeResult {
  /** There was something under this name. */
  readonly deleted: boolean;
}

/**
 * Removes a block volume that dvflow made: no claim can get it any more, then its device is detached and its file removed, then
 * the PersistentVolume. `node` finds the file of one whose PersistentVolume somebody has deleted.
 * @throws `InvalidLocalVolume`; `ResourceExists` while it is bound, reserved or in use, and for volumes that dvflow did not make;
 * `NodeUnavailable` where the node is silent for two minutes
 */
export async function deleteLocalBlockVolume(input: {
  name: string;
  node?: string;
}): Promise<DeleteLocalBlockVolumeResult> {
  requireArgument(input, {
    type: 'InvalidLocalVolume',
    give: '{"name":"..."} of a block volume that dvflow made, with "node":"..." where its PersistentVolume is gone',
    members: { name: 'name', node: 'name?' },
  });
  const { volume } = await control.retireLocalVolume(input);
  if (!volume) return { deleted: false };
  const { name, uid, node, pool } = volume;
  setCurrentDetails(`removing the device of volume ${name} on node ${node}`);
  const removed = await cleaningUp(node)
    .removeLoopVolume({ name, ...(pool === undefined ? {} : { pool }) })
    .catch((error: unknown) => {
      const then = `no claim can get volume ${name} any more: start the worker, and run this again`;
      throw nodeFailure(error, { node, then });
    });
  if (uid === undefined) return { deleted: removed?.found ?? true };
  await control.deleteVolume({ name, uid });
  return { deleted: true };
}
