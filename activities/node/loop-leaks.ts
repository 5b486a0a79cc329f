/** Block volumes that a run of `localBlockVolume` began and never offered, for the sweeper. */
import { existsSync } from 'node:fs';
import type { UnpublishedItem } from '../types.js';
import { listLoopRecords, readLoopRecord, type LoopRecord } from './loop-record.js';
import { findBackingFile, loopDirectory, removeLoopVolume } from './loop-volumes.js';
import { findPool } from './pool.js';
import type { VolumeContext } from './volume-state.js';
import { warn } from './warn.js';

/**
 * One item for each run that made such a volume. Only what certainly holds no disk: a file that has blocks may be one whose
 * PersistentVolume somebody deleted to keep it.
 */
export async function listLoopLeaks(context: VolumeContext): Promise<readonly UnpublishedItem[]> {
  const items: UnpublishedItem[] = [];
  // a worker that never made a device keeps no records, and may not be able to make their directory
  if (!existsSync(`${context.stateDirectory}/block`)) return items;
  const { records } = await listLoopRecords(context);
  for (const record of records) {
    const { name, pool, makers, createdAt } = record;
    if (createdAt === undefined) continue;
    const unused = await isUnused(record, context).catch((error: unknown) => {
      warn('block volume cannot be looked at', { name, pool, error });
      return false;
    });
    if (!unused) continue;
    for (const { workflowId, runId } of makers)
      items.push({
        kind: 'BlockVolume',
        where: context.node,
        name,
        objectUid: runId,
        pool,
        dataVolume: { namespace: '', name, uid: loopDirectory(name) },
        workflowId,
        createdAt,
      });
  }
  return items;
}

/** Takes a run from the makers of a volume, and with the last one the volume, as long as nothing was written. */
export async function removeLoopLeak(
  { name, objectUid, createdAt }: UnpublishedItem,
  context: VolumeContext,
): Promise<void> {
  const record = await readLoopRecord(context, name);
  if (objectUid === undefined || record?.createdAt !== createdAt) return;
  if (await isUnused(record, context)) await removeLoopVolume({ name, madeBy: objectUid }, context);
}

/** Not made to the end, or never written to. A pool that is not mounted says nothing. */
async function isUnused(record: LoopRecord, context: VolumeContext): Promise<boolean> {
  const found = await findPool(record.pool, context).catch(() => undefined);
  if (!found) return false;
  await using pool = found;
  if (!record.complete) return true;
  const opened = await findBackingFile(pool, record.name);
  if (!opened) return false;
  await using file = opened;
  return (await file.stat()).blocks === 0;
}
