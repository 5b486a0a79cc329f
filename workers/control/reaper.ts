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
  /**
   * Cancels the runs of those noted under this key; they stay noted until that has worked. `false`: a run has yet to read whose it is,
   * look again.
   */
  cancelRunsOf(key: string): Promise<boolean>;
  /** Cancels every running lifecycle whose DataVolume does not exist, whoever saw it go. */
  cancelOrphans(): Promise<void>;
}

/**
 * Nothing is cancelled on the word of a list: Temporal is asked by id, Kubernetes by name. Nor by the hour, since the API server and
 * Temporal have clocks of their own.
 */
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

  async function cancelRunsOf(key: string): Promise<boolean> {
    const known = noted.get(key);
    if (!known) return true;
    for (const gone of [...known.values()]) {
      const ref = refOf(gone);
      const mark = gone.metadata.annotations?.[MARKS.workflowId];
      let read = true;
      for (const id of new Set([dataVolumeWorkflowId(ref), ...(mark ? [mark] : [])]))
        read = (await cancel(id, ref)) && read;
      if (read) known.delete(ref.uid);
    }
    if (known.size > 0) return false;
    noted.delete(key);
    return true;
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

  /**
   * The latest run of the id, if it names the DataVolume that is gone. `false`: it names one of that name, and has not read its uid.
   * The id is used again by whoever makes a namesake, and that run must go on.
   */
  async function cancel(workflowId: string, ref: DataVolumeRef): Promise<boolean> {
    const run = await runs.describe(workflowId);
    if (!run?.running || run.cancelRequested || !isRunOf(run, ref)) return true;
    if (run.names.uid === undefined) return false;
    await runs.cancel(run);
    logger.info('cancelled the run of a DataVolume that is gone', { ...ref, workflowId });
    return true;
  }

  return { add, cancelRunsOf, cancelOrphans };
}
