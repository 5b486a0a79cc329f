/** The run that prepares a HostPathProvisioner: told to look, or started; the same from the watch and from an activity. */
import type { Client, WorkflowExecutionDescription } from '@temporalio/client';
import { WorkflowIdConflictPolicy, WorkflowIdReusePolicy } from '@temporalio/common';
import type { PreparationStatus, ProvisionerRef } from '../../types/preparation.js';
import { isOpen, unlessMissing } from '../executions.js';
import { MARKS } from '../names.js';
import type { ClusterMeta, WatchedProvisioner } from './objects.js';

const WORKFLOW_TYPE = 'prepareStorage';
/** `CONTROL_QUEUE`, `wakeSignal` and `preparationQuery` of the workflows, which activities do not import. */
const QUEUE = 'dvflow';
const WAKE = 'wake';
const STATUS = 'status';

/** Id of the run that the watch starts; `prepareStorageWorkflowId` of the workflows. */
export function preparationWorkflowId({ name, uid }: ProvisionerRef): string {
  return `hostpathprovisioner/${name}/${uid}`;
}

/**
 * Tells the run of a HostPathProvisioner to look again, or starts one. A run that was started from Temporal and made the object
 * serves it as long as it runs: its mark is believed only while Temporal says so.
 */
export async function lookAgain(
  temporal: Pick<Client, 'workflow'>,
  { name, uid, annotations = {} }: Pick<ClusterMeta, 'name' | 'uid' | 'annotations'>,
): Promise<void> {
  const marked = annotations[MARKS.workflowId];
  if (marked !== undefined && (await serves(temporal, marked, name))) {
    const told = await unlessMissing(
      temporal.workflow
        .getHandle(marked)
        .signal(WAKE)
        .then(() => true),
    );
    if (told) return;
  }
  await temporal.workflow.signalWithStart(WORKFLOW_TYPE, {
    workflowId: preparationWorkflowId({ name, uid }),
    taskQueue: QUEUE,
    args: [{ name, uid } satisfies ProvisionerRef],
    signal: WAKE,
    workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE,
    workflowIdConflictPolicy: WorkflowIdConflictPolicy.USE_EXISTING,
    staticSummary: `Prepare storage of ${name}`.slice(0, 190),
    staticDetails: `HostPathProvisioner \`${name}\`: nodes, directories, SELinux labels, StorageClasses. Cancel removes what this run made.`,
  });
}

/** The latest run that served a HostPathProvisioner. */
export interface LatestRun {
  readonly running: boolean;
  /** Temporal's word: `RUNNING`, `TERMINATED`. */
  readonly status: string;
  /** When it ended, if it has. */
  readonly closedAt?: Date;
}

/**
 * The latest run that serves or served a HostPathProvisioner: the one that made it from Temporal, whose mark is believed only where
 * that run names this object, or the one that the watch started; of two the one that runs, or that ended later. `undefined` where
 * Temporal knows none.
 */
export async function describePreparation(
  temporal: Pick<Client, 'workflow'>,
  { name, uid, annotations = {} }: Pick<ClusterMeta, 'name' | 'uid' | 'annotations'>,
): Promise<LatestRun | undefined> {
  const marked = annotations[MARKS.workflowId];
  const own = await unlessMissing(
    temporal.workflow.getHandle(preparationWorkflowId({ name, uid })).describe(),
  );
  const other = marked === undefined ? undefined : await describeServing(temporal, marked, name);
  return latestOf([own, other].flatMap((found) => (found ? [factsOf(found)] : [])));
}

/** The one that runs, else the one that ended last. */
export function latestOf(runs: readonly LatestRun[]): LatestRun | undefined {
  const endOf = ({ running, closedAt }: LatestRun): number =>
    running ? Infinity : (closedAt?.getTime() ?? 0);
  return runs.toSorted((a, b) => endOf(b) - endOf(a))[0];
}

/** The status is of the specification as it is. */
export function isJudged({ metadata, status }: WatchedProvisioner): boolean {
  return status?.observedGeneration === metadata.generation;
}

/** Cancelled or terminated by a person, who may change the object to have it begun anew. */
export function isStopped(provisioner: WatchedProvisioner, latest: LatestRun | undefined): boolean {
  return isJudged(provisioner) && ['CANCELLED', 'TERMINATED'].includes(latest?.status ?? '');
}

type Described = Pick<WorkflowExecutionDescription, 'status' | 'closeTime' | 'type'>;

function factsOf(found: Described): LatestRun {
  const { status, closeTime } = found;
  return { running: isOpen(found), status: status.name, ...(closeTime ? { closedAt: closeTime } : {}) };
}

/** The id may since be another's: its run must say that it is for this object. */
async function describeServing(
  temporal: Pick<Client, 'workflow'>,
  id: string,
  name: string,
): Promise<Described | undefined> {
  const handle = temporal.workflow.getHandle(id);
  const found = await unlessMissing(handle.describe());
  if (found?.type !== WORKFLOW_TYPE) return undefined;
  const asked = unlessMissing(handle.query<PreparationStatus>(STATUS));
  // one that is over and cannot be asked any more is believed nothing; one that runs will answer
  const status = await (factsOf(found).running ? asked : asked.catch(() => undefined));
  return status !== undefined && ['', name].includes(status.name) ? found : undefined;
}

/** A run that has not yet heard of its object may be the one that has just made this one. */
async function serves(temporal: Pick<Client, 'workflow'>, id: string, name: string): Promise<boolean> {
  const found = await unlessMissing(temporal.workflow.getHandle(id).describe());
  if (!found || !factsOf(found).running) return false;
  return (await describeServing(temporal, id, name)) !== undefined;
}
