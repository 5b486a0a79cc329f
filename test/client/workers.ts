import { fileURLToPath } from 'node:url';
import type { Client } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Worker, type WorkerOptions } from '@temporalio/worker';
import { bundleWorkflows } from '../../workers/workflow-code.js';
import { CONTROL_QUEUE } from '../../workflows/task-queues.js';
import { startTemporal, type TestServer } from './temporal.js';

/** What the workers of one file of tests run. */
export interface WorkersPlan {
  /** Module of the workflows that the worker of the control queue runs. */
  readonly workflows: URL;
  /** Activities by task queue; asked for when the workers start. */
  readonly queues: () => Readonly<Record<string, WorkerOptions['activities']>>;
  /** Settings of the server's own. */
  readonly settings?: Readonly<Record<string, number>>;
  /** Heartbeats reach the server no later than this. In ms; Temporal's default else. */
  readonly heartbeatMs?: number;
  /** Told what workflows count. */
  readonly counted?: (metric: string, value: number) => void;
}

/** Starts a server of Temporal and a worker for each queue before the tests of this suite, and ends them after. */
export function useWorkers({ workflows, queues, settings = {}, heartbeatMs, counted }: WorkersPlan): () => {
  readonly client: Client;
  readonly address: string;
} {
  const workflowsPath = fileURLToPath(workflows);
  const started: { readonly worker: Worker; readonly running: Promise<void> }[] = [];
  let server: TestServer;
  let connection: NativeConnection | undefined;

  before(async () => {
    server = await startTemporal(settings);
    connection = await NativeConnection.connect({ address: server.address });
    const workflowBundle = await bundleWorkflows({ workflowsPath, logger: new DefaultLogger('ERROR') });
    for (const [taskQueue, activities = {}] of Object.entries(queues())) {
      const worker = await Worker.create({
        connection,
        taskQueue,
        activities,
        sinks: {
          dvflowMetrics: { record: { fn: (_, metric: string, value: number) => counted?.(metric, value) } },
        },
        ...(taskQueue === CONTROL_QUEUE ? { workflowBundle } : {}),
        ...(heartbeatMs ? { maxHeartbeatThrottleInterval: heartbeatMs } : {}),
      });
      started.push({ worker, running: worker.run() });
    }
  });
  after(async () => {
    for (const { worker } of started) worker.shutdown();
    await Promise.all(started.map(async ({ running }) => await running));
    await connection?.close();
    await server?.close();
  });
  return () => server;
}
