/** Everything that the doctor asks Temporal, once. */
import type { Client } from '@temporalio/client';
import type { Examination } from '../../workflows/examine-nodes.js';
import { CONTROL_QUEUE, SWEEP_SCHEDULE } from '../../workflows/task-queues.js';
import { read, type Reading } from './reading.js';

/** A worker that has asked a task queue for work in the last minutes. */
export interface Poller {
  readonly identity: string;
  readonly lastSeen: Date;
}

/** The sweeper's Schedule. */
export interface SweepFacts {
  readonly paused: boolean;
  /** What was said when it was paused. */
  readonly note?: string;
  readonly createdAt: Date;
  readonly lastRunAt?: Date;
}

/** A Temporal server as it tells itself. */
export interface TemporalFacts {
  readonly address: string;
  readonly namespace: string;
  readonly serverVersion: Reading<string>;
  /** Seconds for which closed runs are kept. */
  readonly retentionSeconds: Reading<number>;
  /** Names of the search attributes that are registered. */
  readonly searchAttributes: Reading<readonly string[]>;
  readonly sweep: Reading<SweepFacts>;
  readonly controlPollers: Reading<readonly Poller[]>;
  /** What the workers say about themselves; refused where no control worker answers. */
  readonly examination: Reading<Examination>;
}

/** TASK_QUEUE_TYPE_WORKFLOW and TASK_QUEUE_TYPE_ACTIVITY of `temporal.api.enums.v1.TaskQueueType`. */
const WORKFLOW_TASKS = 1;
const ACTIVITY_TASKS = 2;

/** A live control worker answers within milliseconds, a silent node takes it 3 s. */
const EXAMINATION_MS = 15_000;

/** Reads all of it at once; what is refused is told in its place. */
export async function readTemporal(client: Client, address: string): Promise<TemporalFacts> {
  const { namespace } = client.options;
  const { workflowService, operatorService } = client.connection;
  const serverVersion = await read(async () => (await workflowService.getSystemInfo({})).serverVersion ?? '');
  const [retentionSeconds, searchAttributes, sweep, controlPollers, examination] = await Promise.all([
    read(async () => {
      const { config } = await workflowService.describeNamespace({ namespace });
      return Number(config?.workflowExecutionRetentionTtl?.seconds ?? 0);
    }),
    read(async () => {
      const { customAttributes } = await operatorService.listSearchAttributes({ namespace });
      return Object.keys(customAttributes ?? {});
    }),
    read(() => readSweep(client)),
    read(() => pollersOf(client, CONTROL_QUEUE, WORKFLOW_TASKS)),
    examine(client),
  ]);
  return {
    address,
    namespace,
    serverVersion,
    retentionSeconds,
    searchAttributes,
    sweep,
    controlPollers,
    examination,
  };
}

async function readSweep(client: Client): Promise<SweepFacts> {
  const { state, info } = await client.schedule.getHandle(SWEEP_SCHEDULE).describe();
  const lastRunAt = info.recentActions.at(-1)?.takenAt;
  return {
    paused: state.paused,
    createdAt: info.createdAt,
    ...(state.note ? { note: state.note } : {}),
    ...(lastRunAt ? { lastRunAt } : {}),
  };
}

/** Workers of a queue; Temporal remembers each for five minutes after its last question. */
export async function pollersOf(
  client: Client,
  queue: string,
  taskQueueType: number = ACTIVITY_TASKS,
): Promise<readonly Poller[]> {
  const { pollers } = await client.connection.workflowService.describeTaskQueue({
    namespace: client.options.namespace,
    taskQueue: { name: queue },
    taskQueueType,
  });
  return (pollers ?? []).map(({ identity, lastAccessTime }) => ({
    identity: identity ?? '',
    lastSeen: new Date(Number(lastAccessTime?.seconds ?? 0) * 1000),
  }));
}

/** Lets the workers speak for themselves. A run that nobody takes up is ended by its timeout. */
async function examine(client: Client): Promise<Reading<Examination>> {
  return await read(
    async () =>
      (await client.workflow.execute('examineNodes', {
        taskQueue: CONTROL_QUEUE,
        workflowId: `doctor/${crypto.randomUUID()}`,
        workflowExecutionTimeout: EXAMINATION_MS,
        staticSummary: 'dvflow doctor asks the workers how they are',
      })) as Examination,
    EXAMINATION_MS + 2_000,
  );
}
