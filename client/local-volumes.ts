import type { Client } from '@temporalio/client';
import type { LocalBlockVolumeInput, LocalBlockVolumeResult } from '../activities/types/local-volumes.js';
import { CONTROL_QUEUE } from '../workflows/task-queues.js';
import { outlastOutages } from './outages.js';
import type { Run } from './target.js';

/** A run that makes or removes a local volume. */
export interface LocalVolumeHandle<T> extends Required<Run> {
  /** Waits through outages of Temporal, as the result of a lifecycle does. @throws what `failureOf` reads */
  result(): Promise<T>;
}

/**
 * Starts to make a block volume over a file of a node. Without a name the volume gets one from the workflow, and each start makes
 * another volume; with one, a second start finds the first's.
 * @throws WorkflowExecutionAlreadyStartedError while a run for that name is under way
 */
export async function createLocalBlockVolume(
  client: Client,
  input: LocalBlockVolumeInput,
): Promise<LocalVolumeHandle<LocalBlockVolumeResult>> {
  const handle = await client.workflow.start('localBlockVolume', {
    taskQueue: CONTROL_QUEUE,
    workflowId: workflowIdOf(input.name ?? `${input.node}-${crypto.randomUUID()}`),
    args: [input],
    staticSummary: `Block volume ${input.name ?? ''} of ${input.size} on ${input.node}`.slice(0, 190),
  });
  const { workflowId, firstExecutionRunId: runId } = handle;
  const result = async () => (await outlastOutages(client, () => handle.result())) as LocalBlockVolumeResult;
  return { workflowId, runId, result };
}

/**
 * Starts to remove a block volume that dvflow made; `node` finds the file of one whose PersistentVolume is gone.
 * @throws WorkflowExecutionAlreadyStartedError while a run for that name is under way
 */
export async function deleteLocalBlockVolume(
  client: Client,
  input: { readonly name: string; readonly node?: string },
): Promise<LocalVolumeHandle<{ readonly deleted: boolean }>> {
  const handle = await client.workflow.start('deleteLocalBlockVolume', {
    taskQueue: CONTROL_QUEUE,
    // one id for both: a volume is not removed while it is made
    workflowId: workflowIdOf(input.name),
    args: [input],
    staticSummary: `Delete block volume ${input.name}`.slice(0, 190),
  });
  const { workflowId, firstExecutionRunId: runId } = handle;
  const result = async () => (await outlastOutages(client, () => handle.result())) as { deleted: boolean };
  return { workflowId, runId, result };
}

function workflowIdOf(name: string): string {
  return `local-volume/${name}`;
}
