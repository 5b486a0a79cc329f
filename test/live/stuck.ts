/** What is known of something that does not get on, for the message of the test that waits for it. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Client } from '@temporalio/client';
import type { TestStack } from '../support/stack.js';
import type { DataVolume } from './world.js';

/** Its status, the last steps of its run and the attempts that are open; never throws. */
export async function describeStuck(temporal: Client, found: DataVolume | undefined): Promise<string> {
  if (!found) return 'there is no such DataVolume';
  const { namespace, name, uid } = found.metadata;
  const run = await describeRun(temporal, `datavolume/${namespace}/${name}/${uid}`).catch(
    (error: unknown) => `its run: ${String(error)}`,
  );
  return `${JSON.stringify(found.status)}\n${run}`;
}

/** The runs of a namespace that have not ended, and the last lines of the workers' logs; never throws. */
export async function describeNamespace(stack: TestStack, namespace: string): Promise<string> {
  try {
    const logs = join(stack.info.directory, 'logs');
    const parts = await Promise.all([describeRuns(stack.temporal, namespace), tailsOf(logs)]);
    return parts.flat().join('\n');
  } catch (error) {
    return String(error);
  }
}

async function describeRuns(temporal: Client, namespace: string): Promise<readonly string[]> {
  const described: string[] = [];
  for await (const { workflowId } of temporal.workflow.list({ query: 'ExecutionStatus = "Running"' }))
    if (workflowId.includes(`/${namespace}/`)) described.push(await describeRun(temporal, workflowId));
  return described;
}

async function tailsOf(directory: string): Promise<readonly string[]> {
  const names = (await readdir(directory)).filter((name) => name.startsWith('worker-'));
  return await Promise.all(
    names.map(async (name) => {
      const lines = (await readFile(join(directory, name), 'utf8')).trimEnd().split('\n');
      return [name, ...lines.slice(-12)].join('\n  ');
    }),
  );
}

async function describeRun(temporal: Client, workflowId: string): Promise<string> {
  const handle = temporal.workflow.getHandle(workflowId);
  const [{ status, raw }, { events }] = await Promise.all([handle.describe(), handle.fetchHistory()]);
  const open = (raw.pendingActivities ?? []).map(
    ({ activityType, attempt, state, lastStartedTime, lastHeartbeatTime, lastFailure, lastWorkerIdentity }) =>
      JSON.stringify({
        activity: activityType?.name,
        state,
        attempt,
        started: stamp(lastStartedTime),
        heartbeat: stamp(lastHeartbeatTime),
        failure: lastFailure?.message,
        worker: lastWorkerIdentity,
      }),
  );
  const last = (events ?? []).slice(-8).map((event) => {
    const kind = Object.keys(event).find((key) => key.endsWith('EventAttributes')) ?? '';
    return `${stamp(event.eventTime)} ${kind.replace('EventAttributes', '')}`;
  });
  return [`its run ${workflowId} is ${status.name} at ${new Date().toISOString()}`, ...last, ...open].join(
    '\n',
  );
}

function stamp(time: { seconds?: unknown; nanos?: number | null } | null | undefined): string | undefined {
  if (!time) return undefined;
  return new Date(Number(time.seconds) * 1000 + (time.nanos ?? 0) / 1e6).toISOString();
}
