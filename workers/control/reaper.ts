import type { Logger } from '@temporalio/common';
import { MARKS } from '../../activities/kubernetes/names.js';
import type { DataVolume } from '../../activities/kubernetes/objects.js';
import type { DataVolumeRef } from '../../activities/types.js';
import { dataVolumeWorkflowId } from '../../workflows/task-queues.js';
import type { DataVolumeWrites } from './data-volume-writes.js';
import { refOf } from './lifecycles.js';
import { keyOf } from './list-watch.js';
import { isRunOf, type Runs } from './runs.js';

/** Cancels the runs of DataVolumes that are gone. */
export interface WorkflowReaper {
  /** Notes a DataVolume that is gone or going, with the mark that it had. */
  add(gone: DataVolume): void;
  /** Cancels the runs of those noted under this key; they stay noted until that has worked. */
  cancelRunsOf(key: string): Promise<void>;
  /** Cancels every running lifecycle whose DataVolume does not exist, whoever saw it go. */
  cancelOrphans(): Promise<void>;
}

/** Nothing is cancelled on the word of a list: Temporal is asked by id, Kubernetes by name. */
export function createWorkflowReaper({
  runs,
  writes,
  logger,
}: {
  runs: Runs;
  writes: Pick<DataVolumeWrites, 'find'>;
  logger: Pick<Logger, 'info'>;
}): WorkflowReaper {
  /** By key, then by uid: one name may have been used several times. */
  const noted = new Map<string, Map<string, DataVolume>>();

  function add(gone: DataVolume): void {
    const key = keyOf(gone);
    const known = noted.get(key) ?? new Map<string, DataVolume>();
    noted.set(key, known.set(gone.metadata.uid, gone));
  }

  async function cancelRunsOf(key: string): Promise<void> {
    const known = noted.get(key);
    if (!known) return;
    for (const gone of [...known.values()]) {
      const ref = refOf(gone);
      const mark = gone.metadata.annotations?.[MARKS.workflowId];
      for (const id of new Set([dataVolumeWorkflowId(ref), ...(mark ? [mark] : [])])) await cancel(id, ref);
      known.delete(ref.uid);
    }
    if (known.size === 0) noted.delete(key);
  }

  async function cancelOrphans(): Promise<void> {
    for await (const { workflowId, names } of runs.listRunning()) {
      const { namespace, name, uid } = names;
      if (!namespace || !name || !uid) continue;
      const found = await writes.find({ namespace, name });
      if (found?.metadata.uid === uid && !found.metadata.deletionTimestamp) continue;
      await cancel(workflowId, { namespace, name, uid });
    }
  }

  /** The latest run of the id, if it names the DataVolume that is gone. */
  async function cancel(workflowId: string, ref: DataVolumeRef): Promise<void> {
    const run = await runs.describe(workflowId);
    if (!run?.running || run.cancelRequested || !isRunOf(run, ref)) return;
    await runs.cancel(run);
    logger.info('cancelled the run of a DataVolume that is gone', { ...ref, workflowId });
  }

  return { add, cancelRunsOf, cancelOrphans };
}
