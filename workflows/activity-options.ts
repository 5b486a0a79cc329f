/**
 * The proxies through which lifecycles act, one a kind of work. No `maximumAttempts` anywhere: the activity decides what no retry
 * can cure and says so by a non-retryable failure; everything else is worth another try until the lifecycle's deadline.
 */
import { ActivityCancellationType, proxyActivities } from '@temporalio/workflow';
import type { ControlActivities, NodeActivities, TransferActivities } from '../activities/interfaces.js';
import type { FailureType } from '../activities/types.js';
import { CONTROL_QUEUE, nodeQueue, transferQueue } from './task-queues.js';

/** Quick at first, since most misses are a conflict or a restarting API server; then out of the way of an outage. */
const retry = { initialInterval: '500ms', backoffCoefficient: 2, maximumInterval: '30s' } as const;

/** Talks to Kubernetes. */
export const control = proxyActivities<ControlActivities>({
  taskQueue: CONTROL_QUEUE,
  // API calls take milliseconds; the rest is a server under load.
  startToCloseTimeout: '2m',
  // An API server that is away for a day needs a person.
  scheduleToCloseTimeout: '24h',
  // A cancelled run must know what its last step made, or it cannot undo it; these steps are short.
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  retry,
});

/** Makes the claim; a full quota goes back to the lifecycle, which waits where a person can see it. */
export const claiming = proxyActivities<ControlActivities>({
  taskQueue: CONTROL_QUEUE,
  startToCloseTimeout: '2m',
  scheduleToCloseTimeout: '24h',
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  retry: { ...retry, nonRetryableErrorTypes: ['ExceededQuota' satisfies FailureType] },
});

/** Probes a source. The tenth failure in a row is final, as for a transfer: about four minutes. */
export const inspecting = proxyActivities<ControlActivities>({
  taskQueue: CONTROL_QUEUE,
  // Redirects, reconnects and the source's own stall limit of 60 s.
  startToCloseTimeout: '5m',
  retry: { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '1m', maximumAttempts: 10 },
});

/** Waits for a claim to be Bound; polls and heartbeats, so that a dead worker is noticed. */
export const publishing = proxyActivities<ControlActivities>({
  taskQueue: CONTROL_QUEUE,
  startToCloseTimeout: '10m',
  heartbeatTimeout: '15s',
  retry,
});

/** Asks a node whether it lives: an answer later than this is no answer (`design.md` §6, WaitForFirstConsumer). */
export function probing(node: string): NodeActivities {
  return proxyActivities<NodeActivities>({
    taskQueue: nodeQueue(node),
    scheduleToStartTimeout: '3s',
    startToCloseTimeout: '10s',
    retry: { maximumAttempts: 1 },
  });
}

/** Short work on a node that has just answered. */
export function onNode(node: string): NodeActivities {
  return proxyActivities<NodeActivities>({
    taskQueue: nodeQueue(node),
    // Removing or verifying a large directory; everything else is milliseconds.
    startToCloseTimeout: '5m',
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    retry,
  });
}

/** Clean-up on a node: one that has been silent for 2 minutes is left to the sweeper (`design.md` §6, How a workflow ends). */
export function cleaningUp(node: string): NodeActivities {
  return proxyActivities<NodeActivities>({
    taskQueue: nodeQueue(node),
    scheduleToStartTimeout: '2m',
    startToCloseTimeout: '5m',
    scheduleToCloseTimeout: '15m',
    retry,
  });
}

/** Moves bytes. */
export function transferring(node: string): TransferActivities {
  return proxyActivities<TransferActivities>({
    taskQueue: transferQueue(node),
    // Terabytes over a slow line; what bounds a transfer is the deadline since its last progress, not this.
    startToCloseTimeout: '30d',
    // The worker beats every second: ten missed ones mean that it is gone.
    heartbeatTimeout: '10s',
    // A half-written disk may only be removed when nobody writes to it any more.
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    retry: { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '1m' },
  });
}
