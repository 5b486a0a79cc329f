/** Keeps the published room up to date: a run of `publishCapacity` soon after something changed, and every so often. */
import { WorkflowExecutionAlreadyStartedError, type Client } from '@temporalio/client';
import { WorkflowIdReusePolicy, type Logger } from '@temporalio/common';
import { CAPACITY_WORKFLOW, CONTROL_QUEUE } from '../../workflows/task-queues.js';
import { createKeyQueue } from './key-queue.js';

/** How long changes are gathered before the nodes are asked, in ms. */
const GATHER_MS = 1_000;

/** When a change is told that a run under way may have missed, in ms. */
const AGAIN_MS = 5_000;

/** How often the nodes are asked where the scheduler reads what they say, and where nobody but a person does. In ms. */
const REFRESH_MS = { read: 60_000, unread: 300_000 } as const;

const KEY = 'capacity';

/** Publishes room. */
export interface CapacityPublisher {
  /** Room has changed, or the classes it is told for. */
  changed(): void;
  stop(): Promise<void>;
}

/** Starts to publish; every replica does, and one run at a time serves them all. */
export function startCapacity(options: {
  readonly client: Client;
  readonly logger: Logger;
  /** Whether any class is there whose room the scheduler reads. */
  readonly isRead: () => boolean;
}): CapacityPublisher {
  const { client, logger, isRead } = options;
  // not by the clock, which may be set back
  let lastAt = -Infinity;
  let isStale = false;
  const queue = createKeyQueue(publish, logger);
  const timer = setInterval(() => {
    const due = lastAt + (isRead() ? REFRESH_MS.read : REFRESH_MS.unread);
    if (performance.now() >= due) queue.add(KEY);
  }, GATHER_MS);

  async function publish(): Promise<void> {
    lastAt = performance.now();
    const wasStale = isStale;
    isStale = false;
    try {
      await client.workflow.start('publishCapacity', {
        workflowId: CAPACITY_WORKFLOW,
        taskQueue: CONTROL_QUEUE,
        args: [],
        workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE,
        staticSummary: 'Publish the room in the pools',
      });
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
      // The run under way may have asked the nodes before the change.
      if (wasStale) changed(AGAIN_MS);
    }
  }

  function changed(ms: number): void {
    isStale = true;
    queue.addAfter(KEY, ms);
  }

  return {
    changed() {
      if (isRead()) changed(GATHER_MS);
    },
    async stop() {
      clearInterval(timer);
      await queue.stop();
    },
  };
}
