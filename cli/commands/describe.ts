import type { Client } from '@temporalio/client';
import { findRun, status } from '../../client/index.js';
import { withTemporal } from '../connections.js';
import { print, printJson, type OutputOptions } from '../output.js';
import { descriptionText } from '../render/description.js';
import { tellHistory, type HistoryLine } from '../render/history.js';

/** Options of `dvflow describe`. */
export interface DescribeOptions extends OutputOptions {
  readonly namespace: string;
}

/** Tells the newest run of a DataVolume: what it is, what it did, and what it waits for. */
export async function runDescribe(name: string, { namespace, output }: DescribeOptions): Promise<void> {
  await withTemporal(async (client) => {
    const run = await findRun(client, { namespace, name });
    const [facts, lines] = await Promise.all([status(client, run), readHistory(client, run)]);
    if (output === 'json') printJson({ ...facts, history: lines.map(toJson) });
    else print(descriptionText(facts, lines, Date.now()));
  });
}

async function readHistory(
  client: Client,
  { workflowId, runId }: { readonly workflowId: string; readonly runId?: string },
): Promise<readonly HistoryLine[]> {
  return tellHistory(await client.workflow.getHandle(workflowId, runId).fetchHistory());
}

function toJson({ at, ...line }: HistoryLine) {
  return { at: new Date(at).toISOString(), ...line };
}
