import { WorkflowNotFoundError, type Client, type WorkflowExecutionDescription } from '@temporalio/client';
import { SEARCH_ATTRIBUTES } from '../workflows/messages.js';

/** A lifecycle: by workflow id, by one run of it, or by its DataVolume (then the newest run that Temporal knows). */
export type Target =
  | string
  | { readonly workflowId: string; readonly runId?: string }
  | { readonly namespace: string; readonly name: string };

/** One workflow execution. */
export interface Run {
  readonly workflowId: string;
  /** Absent: the latest run of the id. */
  readonly runId?: string;
}

/** Temporal knows no run of this target: it never started, or its retention is over. */
export class NoSuchRunError extends Error {
  override name = 'NoSuchRunError' as const;
}

/** The run that a target stands for. @throws {@link NoSuchRunError} */
export async function findRun(client: Client, target: Target): Promise<Run> {
  if (typeof target === 'string') return { workflowId: target };
  if ('workflowId' in target) return target;
  for await (const { workflowId, runId } of client.workflow.list({
    query: newestFirst(target),
    pageSize: 1,
  })) {
    return { workflowId, runId };
  }
  throw new NoSuchRunError(`Temporal knows no workflow of DataVolume ${target.namespace}/${target.name}`);
}

/** The run, or the one that it has been continued by. */
export async function describeRun(
  { workflow }: Client,
  { workflowId, runId }: Run,
): Promise<WorkflowExecutionDescription> {
  const described = await workflow.getHandle(workflowId, runId).describe();
  if (described.status.name !== 'CONTINUED_AS_NEW') return described;
  const latest = await workflow.getHandle(workflowId).describe();
  // else the id has been started anew since
  return firstRunOf(latest) === firstRunOf(described) ? latest : described;
}

function firstRunOf({ raw }: WorkflowExecutionDescription): string | null | undefined {
  return raw.workflowExecutionInfo?.firstRunId;
}

/**
 * Asks a lifecycle to end; it removes what it made and leaves the DataVolume `Failed`, reason `Cancelled`. Of a run that has continued
 * as new, it is the run that goes on with it that is asked.
 * Returns the run that was asked, to await its end. @throws {@link NoSuchRunError}
 */
export async function cancel(client: Client, target: Target): Promise<Run> {
  const found = await findRun(client, target);
  const { workflowId } = found;
  const described = await describeOpen(client, found);
  // The server takes a cancellation of a closed run without a word.
  if (!described) {
    throw new NoSuchRunError(`workflow ${workflowId} does not run, so that there is nothing to cancel`);
  }
  // the latest run of an id stays that, whichever it is by now
  const run = found.runId === undefined ? found : { workflowId, runId: described.runId };
  await client.workflow.getHandle(workflowId, run.runId).cancel();
  return run;
}

/** Running, or paused: a cancellation is kept until the run goes on. */
async function describeOpen(client: Client, run: Run): Promise<WorkflowExecutionDescription | undefined> {
  try {
    const described = await describeRun(client, run);
    return ['RUNNING', 'PAUSED'].includes(described.status.name) ? described : undefined;
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return undefined;
    throw error;
  }
}

/** Visibility lists the newest start first. */
function newestFirst({ namespace, name }: { namespace: string; name: string }): string {
  return `${SEARCH_ATTRIBUTES.namespace.name} = ${quote(namespace)} AND ${SEARCH_ATTRIBUTES.name.name} = ${quote(name)}`;
}

function quote(text: string): string {
  return `'${text.replaceAll(/['\\]/g, (character) => `\\${character}`)}'`;
}
