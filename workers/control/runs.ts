/** What Temporal says about the runs of DataVolumes: asked by id, believed only for the DataVolume that a run itself names. */
import { WorkflowFailedError, type Client, type WorkflowExecutionDescription } from '@temporalio/client';
import { ActivityFailure, ApplicationFailure } from '@temporalio/common';
import { FAILURE_TYPES } from '../../activities/failures.js';
import type { FailedAttempt } from '../../activities/kubernetes/attempts.js';
import { isOpen, TRANSFER_ACTIVITIES, unlessMissing } from '../../activities/kubernetes/executions.js';
import type { DataVolumeRef, FailureType, TransferProgress } from '../../activities/types.js';
import { SEARCH_ATTRIBUTES, wakeSignal, withdrawSignal, type Woken } from '../../workflows/messages.js';

/** Latest run of a workflow id. */
export interface RunFacts {
  readonly workflowId: string;
  readonly runId: string;
  readonly running: boolean;
  /** Cancellation was asked for already. */
  readonly cancelRequested: boolean;
  /** Temporal's word: `RUNNING`, `TERMINATED`. */
  readonly status: string;
  /** When it ended, if it has. */
  readonly closedAt?: Date;
  /** The DataVolume that the run names by its search attributes, as far as it does. */
  readonly names: Partial<DataVolumeRef>;
  /** Last heartbeat of a transfer under way; between two attempts it is that of the one before. */
  readonly transfer?: TransferProgress;
  /** Why a step is tried again and again: the attempt that failed last, until a transfer moves again. */
  readonly failed?: FailedAttempt;
}

/** Questions to Temporal; every method rejects while Temporal is away. */
export interface Runs {
  /** The latest run, or `undefined` where Temporal knows none. */
  describe(workflowId: string): Promise<RunFacts | undefined>;
  /** Why a closed run ended, in the words of its failure. */
  explain(run: RunFacts): Promise<{ type: string; message: string }>;
  /** Asks a run for cancellation; one that has ended or was asked before is success. */
  cancel(run: RunFacts): Promise<void>;
  /** Tells a run to look again, and what it is to know. `false` where it does not run. */
  wake(workflowId: string, woken?: Woken): Promise<boolean>;
  /** Tells a run that its claim has ceased to ask for an upload; one that has ended is success. */
  withdraw(run: Pick<RunFacts, 'workflowId' | 'runId'>): Promise<void>;
  /** Every running workflow that names a DataVolume, by the visibility list: a hint. */
  listRunning(): AsyncIterable<{ workflowId: string; names: Partial<DataVolumeRef> }>;
}

/** Activities whose attempt may go on for hours after one that failed. */
const LASTING = [...TRANSFER_ACTIVITIES, 'publishVolume', 'serveVolume', 'awaitRollout'];

/** Failures in a row of a step that takes moments, after which it is shown: the first ones are conflicts, or an API server that starts. */
const UNTOLD_ATTEMPTS = 4;

/** Temporal's `PENDING_ACTIVITY_STATE_STARTED`: an attempt is under way. */
const STARTED = 2;

/** How long a run that failed is not followed by another one, although every list tells of its volume again. In ms. */
const FAILED_REST_MS = 3_600_000;

/** Whether a run failed for good so short a time ago that another one would only repeat it. */
export function failedLately(
  { status, closedAt }: Pick<RunFacts, 'status' | 'closedAt'>,
  at: number,
): boolean {
  return status === 'FAILED' && closedAt !== undefined && at - closedAt.getTime() < FAILED_REST_MS;
}

type Attributes = Pick<WorkflowExecutionDescription, 'typedSearchAttributes'>;

/** Asks through this client. */
export function createRuns(client: Client): Runs {
  const { payloadConverter } = client.options.loadedDataConverter;

  async function describe(workflowId: string): Promise<RunFacts | undefined> {
    const found = await unlessMissing(client.workflow.getHandle(workflowId).describe());
    if (!found) return undefined;
    const status = found.status.name;
    const transfer = transferOf(found);
    const failed = failedAttemptOf(found);
    return {
      workflowId,
      runId: found.runId,
      running: isOpen(found),
      cancelRequested: found.raw.workflowExtendedInfo?.cancelRequested ?? false,
      status,
      names: namesOf(found),
      ...(found.closeTime ? { closedAt: found.closeTime } : {}),
      ...(transfer ? { transfer } : {}),
      ...(failed ? { failed } : {}),
    };
  }

  function transferOf({ raw }: WorkflowExecutionDescription): RunFacts['transfer'] {
    const pending = raw.pendingActivities?.find(({ activityType }) =>
      TRANSFER_ACTIVITIES.includes(activityType?.name ?? ''),
    );
    const payload = pending?.heartbeatDetails?.payloads?.[0];
    return payload ? payloadConverter.fromPayload<TransferProgress>(payload) : undefined;
  }

  async function explain({
    workflowId,
    runId,
    status,
  }: RunFacts): Promise<{ type: string; message: string }> {
    const terminated = {
      type: 'Terminated',
      message: `workflow ${workflowId} was ended from outside (${status})`,
    };
    if (status === 'CANCELLED') return { type: 'Cancelled', message: 'the import was cancelled' };
    if (status === 'COMPLETED') {
      const message = `workflow ${workflowId} ended without writing a final phase (${status})`;
      return { type: 'Terminated', message };
    }
    if (status !== 'FAILED') return terminated;
    try {
      await client.workflow.getHandle(workflowId, runId).result();
      return terminated;
    } catch (error) {
      if (!(error instanceof WorkflowFailedError)) throw error;
      const cause = error.cause instanceof ActivityFailure ? error.cause.cause : error.cause;
      const type = cause instanceof ApplicationFailure ? cause.type : undefined;
      return { type: type ?? 'Error', message: cause?.message ?? error.message };
    }
  }

  async function cancel({ workflowId, runId }: RunFacts): Promise<void> {
    await unlessMissing(client.workflow.getHandle(workflowId, runId).cancel());
  }

  async function wake(workflowId: string, woken?: Woken): Promise<boolean> {
    const sent = await unlessMissing(
      client.workflow
        .getHandle(workflowId)
        .signal(wakeSignal, woken)
        .then(() => true),
    );
    return sent ?? false;
  }

  async function withdraw({ workflowId, runId }: Pick<RunFacts, 'workflowId' | 'runId'>): Promise<void> {
    await unlessMissing(client.workflow.getHandle(workflowId, runId).signal(withdrawSignal));
  }

  async function* listRunning(): AsyncIterable<{ workflowId: string; names: Partial<DataVolumeRef> }> {
    const query = `ExecutionStatus = 'Running' AND ${SEARCH_ATTRIBUTES.uid.name} IS NOT NULL`;
    for await (const found of client.workflow.list({ query })) {
      yield { workflowId: found.workflowId, names: namesOf(found) };
    }
  }

  return { describe, explain, cancel, wake, withdraw, listRunning };
}

/** Whether a run names this very DataVolume; before it has read the uid, its namespace and name must do. */
export function isRunOf(
  { names }: Pick<RunFacts, 'names'>,
  { namespace, name, uid }: DataVolumeRef,
): boolean {
  return names.namespace === namespace && names.name === name && (names.uid ?? uid) === uid;
}

function failedAttemptOf({ raw }: Pick<WorkflowExecutionDescription, 'raw'>): FailedAttempt | undefined {
  for (const { activityType, attempt, state, lastFailure } of raw.pendingActivities ?? []) {
    const activity = activityType?.name ?? '';
    const type = lastFailure?.applicationFailureInfo?.type;
    // what takes moments fails again as a rule, also while it is under way
    const told = LASTING.includes(activity)
      ? Number(state) !== STARTED
      : activity === 'inspectSource' || (attempt ?? 1) > UNTOLD_ATTEMPTS;
    // only dvflow's own failures are known to hold nothing secret
    if (!told || !type || !(type in FAILURE_TYPES)) continue;
    return {
      activity,
      attempt: (attempt ?? 1) - 1,
      type: type as FailureType,
      message: lastFailure.message ?? '',
    };
  }
  return undefined;
}

function namesOf({ typedSearchAttributes: attributes }: Attributes): Partial<DataVolumeRef> {
  const [namespace, name, uid] = [
    SEARCH_ATTRIBUTES.namespace,
    SEARCH_ATTRIBUTES.name,
    SEARCH_ATTRIBUTES.uid,
  ].map((key) => attributes.get(key));
  return { ...(namespace ? { namespace } : {}), ...(name ? { name } : {}), ...(uid ? { uid } : {}) };
}
