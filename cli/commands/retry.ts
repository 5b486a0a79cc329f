import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import { findRun, NoSuchRunError, retry, status, type ImportResult, type Run } from '../../client/index.js';
import { outlastOutages } from '../../client/outages.js';
import { loadKubernetes, withTemporal } from '../connections.js';
import { openDataVolumes } from '../data-volumes.js';
import { CliError, EXIT } from '../errors.js';
import { createView, follow } from '../follow.js';
import { print } from '../output.js';
import { resultText } from './import.js';

/** Options of `dvflow retry`. */
export interface RetryOptions {
  readonly namespace: string;
  readonly waitForConsumer?: boolean;
  readonly wait?: boolean;
}

/** How long the watch may take to answer, in ms. */
const ANSWER_MS = 30_000;

/** Sets the annotation that the watch answers with a new run; only for a DataVolume that is at its end. */
export async function runRetry(name: string, { namespace, wait, ...how }: RetryOptions): Promise<void> {
  const kubeConfig = await loadKubernetes();
  const target = { namespace, name };
  const dataVolumes = await openDataVolumes(kubeConfig);
  const { phase = '' } = (await dataVolumes.get(namespace, name)).status ?? {};
  if (phase !== 'Failed') {
    throw new CliError(
      `DataVolume ${namespace}/${name} is ${phase || 'Pending'}: only a Failed one is retried`,
      EXIT.permanent,
    );
  }
  if (!wait) {
    const value = await retry(kubeConfig, target, how);
    return print(`DataVolume ${namespace}/${name} will run again (dvflow.io/retry: ${value})`);
  }
  await withTemporal(async (client) => {
    const before = await newestRun(client, target);
    await retry(kubeConfig, target, how);
    const { workflowId, runId } = await nextRun(client, target, before);
    const handle = client.workflow.getHandle(workflowId, runId);
    const followed = {
      result: () => outlastOutages(client, () => handle.result()),
      status: () => status(client, { workflowId, ...(runId ? { runId } : {}) }),
      name: `import of ${namespace}/${name}`,
    };
    const result: unknown = await follow(client, followed, createView(process.stdout));
    print(resultText(result as ImportResult));
  });
}

async function nextRun(
  client: Client,
  target: { namespace: string; name: string },
  before?: Run,
): Promise<Run> {
  for (const end = Date.now() + ANSWER_MS; Date.now() < end; await sleep(500)) {
    const run = await newestRun(client, target);
    if (run && run.runId !== before?.runId) return run;
  }
  throw new CliError(`no control worker has answered the retry within ${ANSWER_MS} ms`, EXIT.unreachable);
}

async function newestRun(
  client: Client,
  target: { namespace: string; name: string },
): Promise<Run | undefined> {
  try {
    return await findRun(client, target);
  } catch (error) {
    if (error instanceof NoSuchRunError) return undefined;
    throw error;
  }
}
