import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from '@temporalio/common';
import { attachLoopVolumes } from '../activities/node/loop-volumes.js';
import type { VolumeContext } from '../activities/node/volume-state.js';

/** A pool's file system may be mounted later than the worker starts; a file that somebody removed never comes. In ms. */
const AGAIN_MS = { first: 10_000, longest: 300_000 } as const;

/**
 * Makes the loop devices of this node's block volumes again, which a reboot has taken away; those that cannot be made yet are tried
 * until they are there or the signal comes. Resolves after the first look.
 */
export async function keepLoopVolumes(
  context: VolumeContext,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  if (await attachAll(context, logger)) return;
  void (async () => {
    for (let again: number = AGAIN_MS.first; !signal.aborted; again = Math.min(again * 2, AGAIN_MS.longest)) {
      await pause(again, undefined, { signal }).catch(() => undefined);
      if (!signal.aborted && (await attachAll(context, logger))) return;
    }
  })();
}

async function attachAll(context: VolumeContext, logger: Logger): Promise<boolean> {
  try {
    const failed = await attachLoopVolumes(context);
    for (const { name, error } of failed) logger.warn('block volume has no device yet', { name, error });
    return failed.length === 0;
  } catch (error) {
    logger.warn('block volumes cannot be looked at', { error });
    return false;
  }
}
