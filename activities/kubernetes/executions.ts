/** What Temporal says about workflows: asked by id, never by visibility lists. */
import { WorkflowNotFoundError } from '@temporalio/client';
import type { Client, WorkflowExecutionDescription } from '@temporalio/client';
import type { TransferProgress } from '../types.js';

/** Answers about executions; rejects when Temporal cannot be asked. */
export interface ExecutionObserver {
  /** State of the latest run: `unknown` when Temporal knows no such workflow id. */
  stateOf(workflowId: string): Promise<'running' | 'closed' | 'unknown'>;
  /** Bytes that the workflow's transfer has moved by its last heartbeat; 0 without a transfer under way. */
  transferredBytes(workflowId: string): Promise<number>;
}

/** Names of the activities whose heartbeats carry {@link TransferProgress}. */
export const TRANSFER_ACTIVITIES: readonly string[] = ['transferImage', 'createBlankDisk', 'receiveUpload'];

/** Asks a Temporal server. */
export function createExecutionObserver(temporal: Pick<Client, 'workflow'>): ExecutionObserver {
  async function describe(workflowId: string): Promise<WorkflowExecutionDescription | undefined> {
    return await unlessMissing(temporal.workflow.getHandle(workflowId).describe());
  }

  async function stateOf(workflowId: string): Promise<'running' | 'closed' | 'unknown'> {
    const description = await describe(workflowId);
    if (!description) return 'unknown';
    return isOpen(description) ? 'running' : 'closed';
  }

  async function transferredBytes(workflowId: string): Promise<number> {
    const description = await describe(workflowId);
    const transfer = description?.raw.pendingActivities?.find(({ activityType }) =>
      TRANSFER_ACTIVITIES.includes(activityType?.name ?? ''),
    );
    const payload = transfer?.heartbeatDetails?.payloads?.[0];
    if (!payload) return 0;
    const { payloadConverter } = temporal.workflow.options.loadedDataConverter;
    const progress = payloadConverter.fromPayload<Partial<TransferProgress>>(payload);
    return (progress.bytesRead ?? 0) + (progress.bytesWritten ?? 0);
  }

  return { stateOf, transferredBytes };
}

/** Whether a run is not at its end: one that is paused somebody wants to go on. */
export function isOpen({ status }: Pick<WorkflowExecutionDescription, 'status'>): boolean {
  return status.name === 'RUNNING' || status.name === 'PAUSED';
}

/** What Temporal answers about a workflow, or `undefined` where it knows none of that id. */
export async function unlessMissing<T>(request: Promise<T>): Promise<T | undefined> {
  try {
    return await request;
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return undefined;
    throw error;
  }
}
