import { setTimeout as pause } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import { WorkflowIdConflictPolicy, WorkflowIdReusePolicy, type Logger } from '@temporalio/common';
import { CONTROL_QUEUE, recheckNodeWorkflowId } from '../workflows/task-queues.js';

const RETRY_MS = { first: 1_000, longest: 60_000 } as const;

/**
 * Has the backing directories of a node looked at again, now that its worker has started: labels may be others since a relabel or a
 * new disk. Goes on until Temporal has taken it, or the signal aborts; the worker serves meanwhile.
 */
export async function announceNode(
  { client, node, logger }: { client: Client; node: string; logger: Pick<Logger, 'warn'> },
  signal: AbortSignal,
): Promise<void> {
  for (let wait = RETRY_MS.first as number; !signal.aborted; wait = Math.min(wait * 2, RETRY_MS.longest)) {
    try {
      await client.workflow.start('recheckNode', {
        workflowId: recheckNodeWorkflowId(node),
        taskQueue: CONTROL_QUEUE,
        args: [{ node }],
        workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE,
        workflowIdConflictPolicy: WorkflowIdConflictPolicy.USE_EXISTING,
        staticSummary: `Look at the directories of node ${node} again`.slice(0, 190),
      });
      return;
    } catch (error) {
      logger.warn('could not announce that this node has started', { error, retryInMs: wait });
      await pause(wait, undefined, { signal }).catch(() => undefined);
    }
  }
}
