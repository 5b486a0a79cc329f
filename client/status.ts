import { WorkflowNotFoundError, type Client, type WorkflowExecutionDescription } from '@temporalio/client';
import type { LifecycleStatus, TransferProgress } from '../activities/types.js';
import { statusQuery } from '../workflows/messages.js';
import { describeRun, findRun, NoSuchRunError, type Run, type Target } from './target.js';

/** How Temporal sees a run: `RUNNING`, `COMPLETED`, `FAILED`, `CANCELLED`, `TERMINATED`, … */
export type RunState = WorkflowExecutionDescription['status']['name'];

/** The workflow's own facts, how its run stands, and the progress of the transfer while one is under way. */
export interface ImportStatus extends LifecycleStatus {
  readonly workflowId: string;
  readonly runId: string;
  readonly state: RunState;
  readonly startedAt: Date;
  readonly closedAt?: Date;
  /** Newest heartbeat of the transfer; absent before the first byte and after the last. */
  readonly progress?: TransferProgress;
  /** Activities under way that are being retried, with what they failed of last. */
  readonly retrying: readonly {
    readonly activity: string;
    readonly attempt: number;
    readonly failure: string;
  }[];
}

/**
 * The live status of a lifecycle, running or closed; needs a control worker, since it is the workflow that answers. Of a run that has
 * continued as new, it is the status of the run that goes on with it.
 * @throws {@link NoSuchRunError}
 */
export async function status(client: Client, target: Target): Promise<ImportStatus> {
  const run = await findRun(client, target);
  try {
    const described = await describeRun(client, run);
    const facts = await client.workflow.getHandle(run.workflowId, described.runId).query(statusQuery);
    const progress = await progressOf(client, described);
    return { ...facts, ...executionOf(described), ...(progress ? { progress } : {}) };
  } catch (error) {
    throw error instanceof WorkflowNotFoundError ? noSuchRun(run, error) : error;
  }
}

function noSuchRun({ workflowId }: Run, cause: Error): NoSuchRunError {
  return new NoSuchRunError(`Temporal knows no workflow ${workflowId}`, { cause });
}

function executionOf(described: WorkflowExecutionDescription) {
  return {
    workflowId: described.workflowId,
    runId: described.runId,
    state: described.status.name,
    startedAt: described.startTime,
    ...(described.closeTime ? { closedAt: described.closeTime } : {}),
    retrying: (described.raw.pendingActivities ?? [])
      .filter(({ lastFailure }) => lastFailure)
      .map(({ activityType, attempt, lastFailure }) => ({
        activity: activityType?.name ?? '',
        attempt: attempt ?? 1,
        failure: lastFailure?.message ?? '',
      })),
  };
}

/** Names of the activities whose heartbeats carry {@link TransferProgress}: those of the workers, as a test sees to. */
const TRANSFER_ACTIVITIES = ['transferImage', 'createBlankDisk', 'receiveUpload'];

/** Heartbeat details are the one progress channel (docs/architecture.md). */
async function progressOf(
  client: Client,
  { raw }: WorkflowExecutionDescription,
): Promise<TransferProgress | undefined> {
  const transfer = raw.pendingActivities?.find(({ activityType }) =>
    TRANSFER_ACTIVITIES.includes(activityType?.name ?? ''),
  );
  const { payloadConverter, payloadCodecs } = client.options.loadedDataConverter;
  let payloads = transfer?.heartbeatDetails?.payloads ?? [];
  for (const codec of payloadCodecs) payloads = await codec.decode(payloads);
  const [details] = payloads;
  return details ? payloadConverter.fromPayload<TransferProgress>(details) : undefined;
}
