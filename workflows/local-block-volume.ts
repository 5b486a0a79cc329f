import {
  ApplicationFailure,
  CancellationScope,
  log,
  setCurrentDetails,
  uuid4,
  workflowInfo,
} from '@temporalio/workflow';
import type { FailureType } from '../activities/types.js';
import type {
  LocalBlockVolumeInput,
  LocalBlockVolumeResult,
  LocalVolumePlan,
  LoopVolume,
} from '../activities/types/local-volumes.js';
import { cleaningUp, control, reserving } from './activity-options.js';
import { requireArgument } from './arguments.js';
import { defaultVolumeName } from './local-volume-name.js';
import { nodeFailure } from './silent-node.js';

/**
 * Makes a file of exactly the asked size in a pool of the node, a loop device over it, and a PersistentVolume with `volumeMode:
 * Block` that names the device by a path which stays the same over reboots. Run again with the same argument it finds all of it.
 * A run that fails or is cancelled removes what it made.
 * @throws `InvalidLocalVolume`, `StorageClassNotFound`, `ResourceExists`, `NodeUnavailable`, `NoSpace`, `NotAuthorized`
 */
export async function localBlockVolume(input: LocalBlockVolumeInput): Promise<LocalBlockVolumeResult> {
  requireArgument(input, {
    type: 'InvalidLocalVolume',
    give: 'one JSON object such as {"node":"node01","size":"2Gi"}',
    members: { node: 'name', name: 'name?' },
  });
  const name = input.name ?? defaultVolumeName(input.node, uuid4().slice(0, 8));
  setCurrentDetails(`planning volume ${name}`);
  const plan = await control.planLocalVolume({ volume: input, name });
  try {
    setCurrentDetails(`making the device of volume ${name} on node ${plan.node}`);
    const device = await makeDevice(plan);
    setCurrentDetails(`creating PersistentVolume ${name}`);
    await control.createLocalVolume({ plan, device });
    setCurrentDetails(`PersistentVolume ${name} is ${device.path} on node ${plan.node}`);
    return {
      volume: name,
      node: plan.node,
      path: device.path,
      bytes: device.bytes,
      directIo: device.directIo,
    };
  } catch (error) {
    if (!plan.exists) await CancellationScope.nonCancellable(() => undo(plan));
    throw error;
  }
}

async function makeDevice(plan: LocalVolumePlan): Promise<LoopVolume> {
  const device = await reserving(plan.node)
    .createLoopVolume({ plan })
    .catch((error: unknown) => {
      throw nodeFailure(error, { node: plan.node, then: 'start its worker, and run this again' });
    });
  if (!device.refused) return device;
  const { roomBytes, requestBytes } = device.refused;
  throw failure(
    'NoSpace',
    `pool ${plan.pool} on node ${plan.node} has room for ${roomBytes} bytes, volume ${plan.name} needs ${requestBytes}`,
  );
}

/** Only what this run has made: somebody else may have been faster under the same name. */
async function undo({ name, node }: LocalVolumePlan): Promise<void> {
  const { runId: madeBy } = workflowInfo();
  try {
    await control.retireLocalVolume({ name, madeBy });
    await cleaningUp(node).removeLoopVolume({ name, madeBy });
  } catch (error) {
    log.error('what was made is left: dvflow local-volume delete NAME --node NODE', { name, node, error });
  }
}

function failure(type: FailureType, message: string): ApplicationFailure {
  return ApplicationFailure.create({ type, message, nonRetryable: true });
}
