/** What of a node is nobody's disk, for the sweeper. */
import type { PoolRef, UnpublishedItem } from '../types.js';
import { listLoopLeaks } from './loop-leaks.js';
import { listMarkers } from './marker.js';
import { findPool } from './pool.js';
import { listTransferLeaks } from './transfer-leaks.js';
import { warn } from './warn.js';
import type { VolumeContext } from './volume-state.js';

/**
 * Directories of these pools that carry the marker, block volumes that hold nothing, and what is known of transfers into static volumes.
 * A pool that cannot be listed is left out and said in the log, and so are the records of the others: the rest is swept.
 * @throws as `findPool` where nothing can be listed at all
 */
export async function listUnpublished(
  pools: readonly PoolRef[],
  context: VolumeContext,
): Promise<readonly UnpublishedItem[]> {
  const failures: unknown[] = [];
  const attempt = async (
    what: Readonly<Record<string, unknown>>,
    list: () => Promise<readonly UnpublishedItem[]>,
  ): Promise<readonly UnpublishedItem[] | undefined> =>
    await list().catch((error: unknown) => {
      warn('cannot be swept', { ...what, error });
      failures.push(error);
      return undefined;
    });
  // at the same time: pools that do not answer are waited for once
  const [leaks, transfers, ...lists] = await Promise.all([
    attempt({ records: context.stateDirectory }, () => listLoopLeaks(context)),
    attempt({ records: `${context.stateDirectory}/transfers` }, () => listTransferLeaks(context)),
    ...pools.map(({ path }) => attempt({ pool: path }, () => listPool(path, context))),
  ]);
  const items = [leaks, transfers, ...lists].flatMap((list) => list ?? []);
  const nothing = items.length === 0 && lists.every((list) => list === undefined);
  if (nothing && failures.length > 0) throw failures[0];
  return items;
}

async function listPool(path: string, context: VolumeContext): Promise<readonly UnpublishedItem[]> {
  const found = await findPool(path, context);
  if (!found) return [];
  await using pool = found;
  return await listMarkers(pool, context.node);
}
