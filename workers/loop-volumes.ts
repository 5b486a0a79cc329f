import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from '@temporalio/common';
import { attachLoopVolumes, listLoopPools } from '../activities/node/loop-volumes.js';
import type { VolumeContext } from '../activities/node/volume-state.js';

/** A pool's file system may be mounted later than the worker starts; a file that somebody removed never comes. In ms. */
const AGAIN_MS = { first: 10_000, longest: 300_000 } as const;

/** The worker does not start later for a disk that answers late or never, in ms. */
const FIRST_MS = 15_000;

/** Looks at something; whether nothing is left to be done there. */
type Look = () => Promise<boolean>;

/**
 * Makes the loop devices of this node's block volumes again, which a reboot has taken away; those that cannot be made yet are tried
 * until they are there or the signal comes, each pool by itself: one that never answers keeps no device of another one. Resolves after
 * the first look, or after `firstMs` (default 15 s) while it goes on.
 */
export async function keepLoopVolumes(
  context: VolumeContext,
  logger: Pick<Logger, 'warn'>,
  signal: AbortSignal,
  {
    firstMs = FIRST_MS,
    againMs = AGAIN_MS.first,
  }: { readonly firstMs?: number; readonly againMs?: number } = {},
): Promise<void> {
  const pools = new Map<string, Promise<void>>();
  const lookAround: Look = async () => {
    const found = await listLoopPools(context);
    for (const pool of found.pools.filter((path) => !pools.has(path)))
      pools.set(
        pool,
        untilDone(
          told(async () => {
            const done = await attachAll(pool, context, logger);
            // a record that can be read later may be of this pool
            if (done) pools.delete(pool);
            return done;
          }, logger),
          signal,
          againMs,
        ),
      );
    for (const { name, error } of found.unreadable)
      logger.warn('block volume has no device yet', { name, error });
    return found.unreadable.length === 0;
  };
  const first = untilDone(told(lookAround, logger), signal, againMs).then(() => Promise.all(pools.values()));
  if (await Promise.race([first, pause(firstMs, undefined, { ref: false })])) return;
  logger.warn('block volumes take long to look at: the worker starts meanwhile', { afterMs: firstMs });
}

/** Resolves after the first look; the others follow while something is left to be done. */
async function untilDone(look: Look, signal: AbortSignal, againMs: number): Promise<void> {
  if (await look()) return;
  void (async () => {
    for (let again = againMs; !signal.aborted; again = Math.min(again * 2, AGAIN_MS.longest)) {
      await pause(again, undefined, { signal }).catch(() => undefined);
      if (!signal.aborted && (await look())) return;
    }
  })();
}

/** Never throws. */
function told(look: Look, logger: Pick<Logger, 'warn'>): Look {
  return async () => {
    try {
      return await look();
    } catch (error) {
      logger.warn('block volumes cannot be looked at', { error });
      return false;
    }
  };
}

async function attachAll(
  pool: string,
  context: VolumeContext,
  logger: Pick<Logger, 'warn'>,
): Promise<boolean> {
  const failed = await attachLoopVolumes(pool, context);
  for (const { name, error } of failed) logger.warn('block volume has no device yet', { name, error });
  return failed.length === 0;
}
