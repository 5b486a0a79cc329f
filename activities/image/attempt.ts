/** One attempt at filling a volume, as Temporal sees it: its heartbeats, and how often attempts may end without having made anything. */
import { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { awayFailure, failureTypeOf, isAway, permanentFailure, transientFailure } from '../failures.js';
import type { Owner } from '../node/directories.js';
import type { TransferProgress, TransientFailureType } from '../types.js';
import { noSpaceOr } from './no-space.js';
import { createRecordStore } from './resume-record.js';
import type { TransferTarget } from './transfer-target.js';
import { nameUnforeseen } from './unforeseen.js';

/** Attempts in a row without a durable byte that make a failure final (`design.md` §8). */
const MAX_BARREN = 10;
/** Heartbeats are sent this often even where the work is silent; the timeout is 10 s. */
const HEARTBEAT_MS = 500;
const LONGEST_DELAY_MS = 60_000;

/** Heartbeats of one attempt. */
export interface Heart extends Disposable {
  /** Attempts in a row that made nothing durable, when this one began. */
  readonly barren: number;
  readonly beat: (progress: TransferProgress) => void;
  /** Corrects the count for the next attempt. */
  readonly count: (barren: number) => void;
}

/** Heartbeats what was said last, so that progress moves and a cancel arrives while the work is silent. */
export function startHeart(): Heart {
  const context = Context.current();
  const { attempt } = context.info;
  const before = context.info.heartbeatDetails as Partial<TransferProgress> | undefined;
  const barren = before?.barren ?? 0;
  let last: TransferProgress = {
    phase: 'starting',
    bytesRead: 0,
    bytesWritten: 0,
    rate: 0,
    attempt,
    barren,
  };
  context.heartbeat(last);
  const timer = setInterval(() => context.heartbeat(last), HEARTBEAT_MS);
  return {
    barren,
    beat: (progress) => (last = progress),
    count(now) {
      last = { ...last, barren: now };
      context.heartbeat(last);
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

/** Which attempt is counted, and where its count is known. */
export interface BarrenAttempt {
  /** Fencing number of the attempt. */
  readonly fence: number;
  /** What heartbeats say, for a record that cannot be written. */
  readonly fallback: number;
  readonly owner: Owner | undefined;
  /** An attempt that says nothing about source or target is not counted. @default true */
  readonly counts?: boolean;
}

/** Attempts in a row that made nothing durable; one that never came to its record is entered for it. */
export async function countBarren(
  target: TransferTarget,
  { fence, fallback, owner, counts = true }: BarrenAttempt,
): Promise<number> {
  const record = await target.readRecord();
  const entered = record.fence >= fence;
  if (entered && counts) return record.barren;
  const barren = counts ? record.barren + 1 : Math.max(0, record.barren - (entered ? 1 : 0));
  const records = createRecordStore(`/proc/self/fd/${target.state.fd}`, owner);
  return await records.save({ ...record, fence: Math.max(fence, record.fence), barren }).then(
    () => barren,
    () => fallback,
  );
}

/** The count after an attempt that ended before its record could be read: heartbeats of earlier ones know it. */
export function countUnrecorded(before: number, error: unknown): number {
  return isAway(error) ? before : before + 1;
}

/** What was not foreseen may be this node's trouble: it is tried again, and told without what it may quote. */
export function asFailure(error: unknown, node: string): ApplicationFailure {
  const known = noSpaceOr(error);
  if (known instanceof ApplicationFailure && failureTypeOf(known)) return known;
  return transientFailure(
    'NodeUnavailable',
    `the transfer cannot start on node ${node}: ${nameUnforeseen(error)}`,
  );
}

/** Gives a transient failure its delay by the attempts in a row that made nothing durable, and makes the tenth final. */
export function withRetry(failure: ApplicationFailure, barren: number): ApplicationFailure {
  const { message } = failure;
  const nextRetryDelay: unknown = failure.nextRetryDelay;
  const type = failureTypeOf(failure) ?? 'NodeUnavailable';
  if (failure.nonRetryable) return failure;
  // an API server, a node or a file system that is away says nothing about the source or the target
  if (barren >= MAX_BARREN && type !== 'KubernetesUnavailable' && !isAway(failure))
    return permanentFailure(
      type,
      `${message} (attempt ${barren} in a row without progress: given up)`,
      failure,
    );
  // a source that asks for more time gets it
  const asked = typeof nextRetryDelay === 'number' ? nextRetryDelay : 0;
  const backOff = Math.min(LONGEST_DELAY_MS, 1000 * 2 ** Math.max(0, barren - 1));
  const options = { cause: failure, nextRetryDelayMs: Math.max(asked, backOff) };
  return isAway(failure)
    ? awayFailure(message, options)
    : transientFailure(type as TransientFailureType, message, options);
}
