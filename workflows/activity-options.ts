/**
 * The proxies through which lifecycles act, one a kind of work. No `maximumAttempts` but for a question that is asked again anyway:
 * the activity decides what no retry can cure and says so by a non-retryable failure; everything else is worth another try until
 * the lifecycle's deadline.
 */
import { ActivityCancellationType, proxyActivities } from '@temporalio/workflow';
import type { ControlActivities, NodeActivities, TransferActivities } from '../activities/interfaces.js';
import type { FailureType } from '../activities/types.js';
import { CONTROL_QUEUE, nodeQueue, servingQueue, transferQueue } from './task-queues.js';

/** Quick at first, since most misses are a conflict or a restarting API server; then out of the way of an outage. */
const retry = { initialInterval: '500ms', backoffCoefficient: 2, maximumInterval: '30s' } as const;

/**
 * An activity that is not heard of for so long is lost, however long it may take: its worker died, or never got it. (Temporal counts
 * a task as started when it hands it out; where the answer to the poll does not arrive, nobody works on it.) Workers beat for what
 * they do, see `workers/beats.ts`.
 */
const LIVENESS = '10s';

/** Talks to Kubernetes. */
export const control = proxyActivities<ControlActivities>({
  taskQueue: CONTROL_QUEUE,
  // API calls take milliseconds; the rest is a server under load.
  startToCloseTimeout: '2m',
  heartbeatTimeout: LIVENESS,
  // An API server that is away for a day needs a person.
  scheduleToCloseTimeout: '24h',
  // A cancelled run must know what its last step made, or it cannot undo it; these steps are short.
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  retry,
});

/** Asks for the sweeper, who comes again: what is in the way now may be gone then. */
export const sweeping = proxyActivities<ControlActivities>({
  taskQueue: CONTROL_QUEUE,
  startToCloseTimeout: '2m',
  heartbeatTimeout: LIVENESS,
  retry: { ...retry, maximumAttempts: 5 },
});

/** Makes the claim; a full quota goes back to the lifecycle, which waits where a person can see it. */
export const claiming = proxyActivities<ControlActivities>({
  taskQueue: CONTROL_QUEUE,
  startToCloseTimeout: '2m',
  heartbeatTimeout: LIVENESS,
  scheduleToCloseTimeout: '24h',
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  retry: { ...retry, nonRetryableErrorTypes: ['ExceededQuota' satisfies FailureType] },
});

/**
 * Probes a source; the activity makes its tenth failure in a row final, as a transfer does: after about 4 minutes where a server
 * refuses, 20 where nobody answers, 45 where each attempt takes all of its time.
 */
export const inspecting = proxyActivities<ControlActivities>({
  taskQueue: CONTROL_QUEUE,
  // An inspection ends itself after 4 minutes, with a failure that says so; this is for one that cannot.
  startToCloseTimeout: '5m',
  heartbeatTimeout: LIVENESS,
  scheduleToCloseTimeout: '24h',
  retry: { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '1m' },
});

/** Waits for a claim to be Bound. */
export const publishing = proxyActivities<ControlActivities>({
  taskQueue: CONTROL_QUEUE,
  // Bounded by the lifecycle's deadline, not by this.
  startToCloseTimeout: '30d',
  heartbeatTimeout: LIVENESS,
  // Whether the claim is Bound must be known before anything is undone.
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  retry,
});

/** Time within which a live node begins to answer; of two hundred plain claims that come at once the last one waits for the others. */
export type Patience = '3s' | '15s';

/** Asks a node whether it lives: an answer later than this is no answer (`design.md` §6, WaitForFirstConsumer). */
export function probing(node: string, patience: Patience = '3s'): NodeActivities {
  return proxyActivities<NodeActivities>({
    taskQueue: nodeQueue(node),
    scheduleToStartTimeout: patience,
    startToCloseTimeout: '10s',
    retry: { maximumAttempts: 1 },
  });
}

/** Room on a node that has just answered; if it dies before it takes this, another node may have room. */
export function reserving(node: string): NodeActivities {
  return proxyActivities<NodeActivities>({
    taskQueue: nodeQueue(node),
    // Milliseconds of work, behind at most a hundred others under the pool's lock.
    startToCloseTimeout: '1m',
    heartbeatTimeout: LIVENESS,
    scheduleToCloseTimeout: '2m',
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    retry,
  });
}

/** Work that only this node can do: it is waited for, as long as the lifecycle's deadline says. */
export function onNode(node: string): NodeActivities {
  return proxyActivities<NodeActivities>({
    taskQueue: nodeQueue(node),
    // Removing a large directory, or zeroing a device, which goes on where it was; everything else is milliseconds.
    startToCloseTimeout: '5m',
    heartbeatTimeout: LIVENESS,
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    retry,
  });
}

/** Makes a sparse disk: a moment's work. */
export function creating(node: string): NodeActivities {
  return proxyActivities<NodeActivities>({
    taskQueue: nodeQueue(node),
    startToCloseTimeout: '5m',
    heartbeatTimeout: LIVENESS,
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    retry,
  });
}

/** Proves a disk: a moment's work. */
export function finishing(node: string): NodeActivities {
  return proxyActivities<NodeActivities>({
    taskQueue: nodeQueue(node),
    // A thousand disks at once take twenty seconds.
    startToCloseTimeout: '1m',
    heartbeatTimeout: LIVENESS,
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    retry,
  });
}

/** Removes a released volume's data. What does not work now goes back to the workflow, which says so and looks at the volume again. */
export function reclaiming(node: string): NodeActivities {
  return proxyActivities<NodeActivities>({
    taskQueue: nodeQueue(node),
    // Behind two hundred others; but what is about to be removed must not have been looked at long ago.
    scheduleToStartTimeout: '30s',
    // A user's files may be many millions.
    startToCloseTimeout: '1h',
    heartbeatTimeout: LIVENESS,
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    retry: { ...retry, maximumAttempts: 3 },
  });
}

/** Removes what a sweep found on a node: a few tries, since others are to be swept, and it comes again. */
export function sweepingOn(node: string): NodeActivities {
  return proxyActivities<NodeActivities>({
    taskQueue: nodeQueue(node),
    scheduleToStartTimeout: '2m',
    startToCloseTimeout: '5m',
    heartbeatTimeout: LIVENESS,
    retry: { ...retry, maximumAttempts: 5 },
  });
}

/** Clean-up on a node: one that has been silent for 2 minutes is left to the sweeper (`design.md` §6, How a workflow ends). */
export function cleaningUp(node: string): NodeActivities {
  return proxyActivities<NodeActivities>({
    taskQueue: nodeQueue(node),
    scheduleToStartTimeout: '2m',
    startToCloseTimeout: '5m',
    heartbeatTimeout: LIVENESS,
    scheduleToCloseTimeout: '15m',
    retry,
  });
}

/**
 * Clean-up of a volume that somebody made: a device that has to write its zeros takes hours, and says how far it is. Its path may be
 * gone for good: a few tries, then the run ends, and the sweeper comes back to it. Not so for a claim's own volume, filled in place,
 * which bears no mark by which a sweeper would find it (`isSwept`: false): on a node that is there it is tried until the path is back.
 */
export function emptying(node: string, { isSwept = true } = {}): NodeActivities {
  return proxyActivities<NodeActivities>({
    taskQueue: nodeQueue(node),
    // also of a claim filled in place: what waits for its node for weeks would be taken back from whoever has the path by then
    scheduleToStartTimeout: '2m',
    startToCloseTimeout: '1d',
    // A gibibyte of zeros between two beats.
    heartbeatTimeout: '2m',
    retry: isSwept ? { ...retry, initialInterval: '5s', maximumAttempts: 5 } : retry,
  });
}

/**
 * Prepares storage on a node: the first step finds out whether it answers at all. A few tries, then the run says what is wrong and
 * looks again.
 */
export function preparing(node: string): NodeActivities {
  return proxyActivities<NodeActivities>({
    taskQueue: nodeQueue(node),
    // As for a probe, with room for twenty short steps in front of it.
    scheduleToStartTimeout: '10s',
    // semanage rebuilds the policy, which takes a minute on a small node; labelling has its own heartbeat.
    startToCloseTimeout: '10m',
    heartbeatTimeout: LIVENESS,
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    retry: { ...retry, maximumAttempts: 3 },
  });
}

/** Labels a tree, a million entries a call; beats after each directory and every few thousand entries. */
export function labelling(node: string): NodeActivities {
  return proxyActivities<NodeActivities>({
    taskQueue: nodeQueue(node),
    scheduleToStartTimeout: '1m',
    startToCloseTimeout: '1h',
    heartbeatTimeout: '1m',
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    retry: { ...retry, maximumAttempts: 3 },
  });
}

/** Follows a rollout; polls, as {@link publishing}. */
export const following = proxyActivities<ControlActivities>({
  taskQueue: CONTROL_QUEUE,
  // The activity answers after 10 minutes at the latest.
  startToCloseTimeout: '15m',
  heartbeatTimeout: LIVENESS,
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  retry,
});

/** Looks at what a volume holds: milliseconds of a disk, and of an archive's files as long as there are many of them. */
export function measuring(node: string): NodeActivities {
  return proxyActivities<NodeActivities>({
    taskQueue: nodeQueue(node),
    // a node that does not answer is shown, and asked again
    scheduleToStartTimeout: '10s',
    startToCloseTimeout: '30m',
    heartbeatTimeout: LIVENESS,
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    retry: { maximumAttempts: 1 },
  });
}

/** Serves a volume on the node's data port until it is cancelled; a worker that comes back serves it again. */
export function serving(node: string): NodeActivities {
  return proxyActivities<NodeActivities>({
    taskQueue: servingQueue(node),
    // as long as whoever reads it has something to read
    startToCloseTimeout: '30d',
    heartbeatTimeout: LIVENESS,
    cancellationType: ActivityCancellationType.TRY_CANCEL,
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
    heartbeatTimeout: LIVENESS,
    // A half-written disk may only be removed when nobody writes to it any more.
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    retry: { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '1m' },
  });
}
