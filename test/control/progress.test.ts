import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Context } from '@temporalio/activity';
import { NativeConnection, Worker } from '@temporalio/worker';
import { transientFailure } from '../../activities/failures.js';
import type { TransferProgress } from '../../activities/types.js';
import { CONTROL_QUEUE } from '../../workflows/task-queues.js';
import { eventually, useControlStack } from './support.js';

describe('progress of a transfer that heartbeats', function () {
  this.timeout(120_000);
  const workers: Worker[] = [];
  const running: Promise<void>[] = [];
  let connection: NativeConnection | undefined;
  // Before the servers end.
  after('workers', async function () {
    this.timeout(30_000);
    for (const worker of workers) worker.shutdown();
    await Promise.all(running);
    await connection?.close();
  });
  const stack = useControlStack();
  /** What the activity reports; the test moves it. */
  let fraction = 0.1;
  let failNow: Error | undefined;
  let reachable = true;

  async function inspectSource(): Promise<void> {
    if (!reachable) throw transientFailure('SourceUnavailable', 'https://host/disk.img: connection refused');
  }

  /** Heartbeats what the test says, until it is told to fail or is cancelled. */
  async function transferImage(): Promise<void> {
    const { attempt } = Context.current().info;
    for (;;) {
      const progress: TransferProgress = {
        phase: 'transferring',
        bytesRead: 0,
        bytesWritten: 0,
        fraction,
        rate: 0,
        attempt,
        barren: 0,
      };
      Context.current().heartbeat(progress);
      if (failNow) {
        const failure = failNow;
        failNow = undefined;
        fraction = 0.2;
        throw failure;
      }
      await Context.current().sleep(100);
    }
  }

  before('workers', async function () {
    this.timeout(60_000);
    connection = await NativeConnection.connect({ address: stack.info.temporalAddress });
    const lifecycle = await Worker.create({
      connection,
      taskQueue: CONTROL_QUEUE,
      workflowsPath: fileURLToPath(new URL('fixtures/transferring.ts', import.meta.url)),
    });
    const transfer = await Worker.create({
      connection,
      taskQueue: 'transfers-of-the-test',
      activities: { inspectSource, transferImage },
      maxHeartbeatThrottleInterval: '200ms',
      defaultHeartbeatThrottleInterval: '200ms',
    });
    workers.push(lifecycle, transfer);
    running.push(...workers.map((worker) => worker.run()));
    await Promise.all([stack.startWatch(), stack.startWatch()]);
  });

  const awaitProgress = async (progress: string, restartCount: number): Promise<void> =>
    void (await eventually(`${progress} after ${restartCount} restarts`, async () => {
      const status = (await stack.find('vm'))?.status;
      return status?.progress === progress && (status.restartCount ?? 0) === restartCount;
    }));

  it('is shown, starts lower with a new attempt only, and never touches a terminal phase', async () => {
    const made = await stack.create('vm');
    await stack.setStatus('vm', { phase: 'ImportInProgress', progress: 'N/A' });
    await awaitProgress('10.00%', 0);
    fraction = 0.453;
    await awaitProgress('45.30%', 0);
    fraction = 0.3;
    await pause(2_500);
    await awaitProgress('45.30%', 0);
    failNow = new Error('connection reset');
    await awaitProgress('20.00%', 1);
    const { resourceVersion } = (await stack.find('vm'))!.metadata;
    await pause(2_500);
    assert.equal((await stack.find('vm'))?.metadata.resourceVersion, resourceVersion, 'written without news');
    await stack.setStatus('vm', { phase: 'Succeeded', progress: '100.0%' });
    fraction = 0.9;
    await pause(2_500);
    assert.deepEqual((await stack.find('vm'))?.status, {
      phase: 'Succeeded',
      progress: '100.0%',
      restartCount: 1,
    });
    await stack.temporal.workflow
      .getHandle(`datavolume/${stack.namespace}/vm/${made.metadata.uid}`)
      .terminate();
  });

  it('tells in condition Running why an attempt failed, as long as it is tried again', async () => {
    reachable = false;
    fraction = 0.1;
    const made = await stack.create('away');
    const condition = { type: 'Running', lastTransitionTime: '2030-01-01T00:00:00Z' };
    const conditionOf = async (): Promise<object | undefined> => {
      const { status, reason, message, lastTransitionTime } =
        (await stack.find('away'))?.status?.conditions?.find(({ type }) => type === 'Running') ?? {};
      return { status, reason, message, lastTransitionTime };
    };
    const awaitMessage = async (message: RegExp): Promise<void> =>
      void (await eventually(`${message}`, async () => message.test(JSON.stringify(await conditionOf()))));
    const pending = { ...condition, status: 'False', reason: 'Pending', message: '' };
    const { type: _, ...unchanged } = pending;
    await stack.setStatus('away', { phase: 'Pending', conditions: [pending] });
    await awaitMessage(
      /"https:\/\/host\/disk.img: connection refused \(attempt \d of 10 failed, trying again\)"/,
    );
    const { message: told, ...others } = (await conditionOf()) as { message: string };
    assert.deepEqual({ ...others, message: '' }, unchanged, told);
    reachable = true;
    await eventually(
      'told no longer',
      async () => JSON.stringify(await conditionOf()).includes('""'),
      40_000,
    );
    assert.deepEqual(await conditionOf(), unchanged);

    const moving = { ...condition, status: 'True', reason: 'Pod is running', message: '' };
    await stack.setStatus('away', { phase: 'ImportInProgress', conditions: [moving] });
    await eventually('progress', async () => (await stack.find('away'))?.status?.progress === '10.00%');
    failNow = transientFailure('SourceUnavailable', 'reset by host', { nextRetryDelayMs: 4_000 });
    await awaitMessage(/"reset by host \(attempt 1 failed, trying again\)"/);
    await eventually('moves', async () => (await stack.find('away'))?.status?.progress === '20.00%', 15_000);
    await awaitMessage(/"message":""/);
    await stack.temporal.workflow
      .getHandle(`datavolume/${stack.namespace}/away/${made.metadata.uid}`)
      .terminate();
  });
});
