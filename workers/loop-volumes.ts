import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from '@temporalio/common';
import { attachLoopVolumes } from '../activities/node/loop-volumes.js';
import type { VolumeContext } from '../activities/node/volume-state.js';

/** A pool's file system may be mounted later than the worker starts; a file that somebody removed never comes. In ms. */
const AGAIN_MS = { first: 10_000, longest: 300_000 } as const;

/** The worker does not start later for a disk that answers late or never, in ms. */
const FIRST_MS = 15_000;

/**
 * Makes the loop devices of this node's block volumes again, which a reboot has taken away; those that cannot be made yet are tried
 * until they are there or the signal comes. Resolves after the first look, or after `firstMs` (default 15 s) while it goes on.
 */
export async function keepLoopVolumes(
  context: VolumeContext,
  logger: Pick<Logger, 'warn'>,
  signal: AbortSignal,
  firstMs = FIRST_MS,
): Promise<void> {
  const first = attachAll(context, logger);
  const seen = await Promise.race([first, pause(firstMs, undefined, { ref: false })]);
  if (seen) return;
  if (seen === undefined)
    logger.warn('block volumes take long to look at: the worker starts meanwhile', { afterMs: firstMs });
  void (async () => {
    if (await first) return;
    for (let again: number = AGAIN_MS.first; !signal.aborted; again = Math.min(again * 2, AGAIN_MS.longest)) {
      await pause(again, undefined, { signal }).catch(() => undefined);
      if (!signal.aborted && (await attachAll(context, logger))) return;
    }
  })();
}

async function attachAll(context: VolumeContext, logger: Pick<Logger, 'warn'>): Promise<boolean> {
  try {
    const failed = await attachLoopVolumes(context);
    for (const { name, error } of failed) logger.warn('block volume has no device yet', { name, error });
    return failed.length === 0;
  } catch (error) {
    logger.warn('block volumes cannot be looked at', { error });
    return false;
  }
}
