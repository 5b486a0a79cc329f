import {
  ActivityFailure,
  condition,
  continueAsNew,
  isCancellation,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import type { ReleasedVolume } from '../activities/types.js';
import { control, reclaiming } from './activity-options.js';
import { requireArgument } from './arguments.js';
import { wakeSignal } from './messages.js';
import { isTimeout } from './silent-node.js';

/** What came of a released volume. */
export interface ReclaimResult {
  /** The data and the PersistentVolume are gone. */
  readonly reclaimed: boolean;
}

/** First and longest time between two tries while a node is away, in ms. */
const PAUSE_MS = { first: 10_000, longest: 120_000 } as const;

/** What is still so is said again after so many ms: Kubernetes forgets events after an hour. */
const SAY_AGAIN_MS = 3_600_000;

/**
 * Removes what a released PersistentVolume of policy `Delete` leaves: first the data on its node, then the object, so that an
 * object which is gone never stands for data which is not. A node that is away is waited for, and so is one whose Node object is
 * gone: whoever knows that it never comes back deletes the PersistentVolume. The volume is read anew before each try, so that a
 * policy which has become `Retain` is honoured.
 * @throws {@link FailureType} `InvalidArgument`, and what no further try of the node can cure
 */
export async function reclaimVolume(input: { name: string; uid: string }): Promise<ReclaimResult> {
  requireArgument(input, {
    type: 'InvalidArgument',
    give: '{"name":"...","uid":"..."} of a PersistentVolume',
    members: { name: 'name', uid: 'name' },
  });
  let woken = false;
  setHandler(wakeSignal, () => {
    woken = true;
  });
  const said = { message: '', at: 0 };
  for (let pause: number = PAUSE_MS.first; ; pause = Math.min(pause * 2, PAUSE_MS.longest)) {
    woken = false;
    const { volume, waiting } = await control.observeReleasedVolume(input);
    if (!volume && waiting === undefined) return { reclaimed: false };
    const hindrance = volume ? await removeData(volume) : { message: waiting ?? '' };
    if (hindrance === undefined) break;
    await say(input, said, hindrance.message);
    if (hindrance.failure) throw hindrance.failure;
    if (workflowInfo().continueAsNewSuggested) await continueAsNew(input);
    await condition(() => woken, pause);
  }
  await control.deleteVolume(input);
  return { reclaimed: true };
}

/** Why the data is not gone. */
interface Hindrance {
  readonly message: string;
  /** No further try can cure it. */
  readonly failure?: ActivityFailure;
}

async function removeData(volume: ReleasedVolume): Promise<Hindrance | undefined> {
  const { node, path } = volume;
  try {
    await reclaiming(node).removeVolumeData({ volume });
    return undefined;
  } catch (error) {
    if (isCancellation(error) || !(error instanceof ActivityFailure)) throw error;
    if (isTimeout(error)) {
      const message = `${path} is not removed yet: no node worker answers on node ${node}; the volume waits for it`;
      return { message };
    }
    const reason = error.cause?.message ?? error.message;
    if (error.retryState === 'NON_RETRYABLE_FAILURE') return { message: reason, failure: error };
    return { message: `${path} is not removed yet: ${reason}` };
  }
}

async function say(
  { name, uid }: { name: string; uid: string },
  said: { message: string; at: number },
  message: string,
): Promise<void> {
  if (message === said.message && Date.now() < said.at + SAY_AGAIN_MS) return;
  await control.recordVolumeEvent({ name, uid, reason: 'VolumeFailedDelete', message });
  said.message = message;
  said.at = Date.now();
}
