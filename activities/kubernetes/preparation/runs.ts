/** The run that prepares a HostPathProvisioner: told to look, or started; the same from the watch and from an activity. */
import { WorkflowNotFoundError, type Client } from '@temporalio/client';
import { WorkflowIdConflictPolicy, WorkflowIdReusePolicy } from '@temporalio/common';
import type { PreparationStatus, ProvisionerRef } from '../../types/preparation.js';
import { MARKS } from '../names.js';
import type { ClusterMeta } from './objects.js';

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

/**
 * The run that is under way for a HostPathProvisioner, by its id: the one that made it from Temporal, whose mark is believed only
 * while it runs and names this object, else the one that the watch starts. `undefined` where none is under way.
 */
export async function findPreparation(
  temporal: Pick<Client, 'workflow'>,
  { name, uid, annotations = {} }: Pick<ClusterMeta, 'name' | 'uid' | 'annotations'>,
): Promise<string | undefined> {
  const marked = annotations[MARKS.workflowId];
  if (marked !== undefined && (await serves(temporal, marked, name))) return marked;
  const id = preparationWorkflowId({ name, uid });
  const found = await unlessMissing(temporal.workflow.getHandle(id).describe());
  return found?.status.name === 'RUNNING' ? id : undefined;
}

/** A run that has not yet heard of its object may be the one that has just made this one. */
async function serves(temporal: Pick<Client, 'workflow'>, id: string, name: string): Promise<boolean> {
  const handle = temporal.workflow.getHandle(id);
  const found = await unlessMissing(handle.describe());
  if (found?.status.name !== 'RUNNING' || found.type !== WORKFLOW_TYPE) return false;
  const status = await unlessMissing(handle.query<PreparationStatus>(STATUS));
  return status !== undefined && ['', name].includes(status.name);
}

async function unlessMissing<T>(request: Promise<T>): Promise<T | undefined> {
  try {
    return await request;
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return undefined;
    throw error;
  }
}
