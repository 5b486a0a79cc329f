import {
  ScheduleAlreadyRunning,
  ScheduleOverlapPolicy,
  type Client,
  type ScheduleOptions,
} from '@temporalio/client';
import { CONTROL_QUEUE, SWEEP_SCHEDULE } from '../../workflows/task-queues.js';

/** How often unpublished leftovers are looked for. */
const EVERY = '10 minutes';

/**
 * Makes sure that the sweeper's Schedule exists and says what this release means; several replicas may do so at once.
 * Whether an operator paused it stays as it is.
 */
export async function ensureSweepSchedule(client: Client): Promise<void> {
  try {
    await client.schedule.create(SWEEP);
  } catch (error) {
    if (!(error instanceof ScheduleAlreadyRunning)) throw error;
    const { spec, action, policies } = SWEEP;
    await client.schedule
      .getHandle(SWEEP_SCHEDULE)
      .update((before) => ({ ...before, spec, action, policies: { ...before.policies, ...policies } }));
  }
}

const SWEEP = {
  scheduleId: SWEEP_SCHEDULE,
  spec: { intervals: [{ every: EVERY }] },
  action: {
    type: 'startWorkflow',
    workflowType: 'sweep',
    workflowId: SWEEP_SCHEDULE,
    taskQueue: CONTROL_QUEUE,
    args: [{}],
  },
  policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: EVERY },
} as const satisfies ScheduleOptions;
