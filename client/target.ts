import { WorkflowNotFoundError, type Client, type WorkflowHandle } from '@temporalio/client';
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

/**
 * Asks a lifecycle to end; it removes what it made and leaves the DataVolume `Failed`, reason `Cancelled`.
 * Returns the run that was asked, to await its end. @throws {@link NoSuchRunError}
 */
export async function cancel(client: Client, target: Target): Promise<Run> {
  const run = await findRun(client, target);
  const handle = client.workflow.getHandle(run.workflowId, run.runId);
  // The server takes a cancellation of a closed run without a word.
  if (!(await isOpen(handle))) {
    throw new NoSuchRunError(`workflow ${run.workflowId} does not run, so that there is nothing to cancel`);
  }
  await handle.cancel();
  return run;
}

/** Running, or paused: a cancellation is kept until the run goes on. */
async function isOpen(handle: WorkflowHandle): Promise<boolean> {
  try {
    return ['RUNNING', 'PAUSED'].includes((await handle.describe()).status.name);
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return false;
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
