/** Waiting for what may take long, and the deadline that bounds it (`design.md` §6, Waiting). */
import {
  ApplicationFailure,
  CancellationScope,
  condition,
  continueAsNew,
  patched,
  setCurrentDetails,
  workflowInfo,
} from '@temporalio/workflow';
import type { DataVolumeFacts, DataVolumeRef, DataVolumeStart, Phase } from '../activities/types.js';
import { refOf, type Run } from './run-state.js';

/** Longest time between two looks at something that is waited for, in ms; a `wake` signal comes sooner. */
const RECHECK_MS = 600_000;

/** What is waited for. */
export interface Wait {
  /** Reason of condition `Running`: `InsufficientCapacity`. */
  readonly reason: string;
  /** In words, with names and figures; asked for again after each look, since figures change. */
  message(): string;
  /** Time counts towards the deadline (room, quota); it stands still for a consumer or a source that does not exist yet. */
  readonly counts: boolean;
  /** Phase while waiting. @default the phase before */
  readonly phase?: Phase;
}

/** The run that waits; a deadline of `Infinity` ends no wait. */
export interface Waiting {
  readonly facts: DataVolumeRef & Pick<DataVolumeFacts, 'deadlineMs'>;
  readonly run: Run;
  readonly enter: (phase: Phase, waiting?: { reason: string; message: string }) => Promise<void>;
}

/** Mark of the histories in which time that stood still is not counted later, when the same wait counts. */
const STOOD_STILL = 'what stood still does not count';

/** See {@link Lifecycle.until}. @throws `DeadlineExceeded` */
export async function until<T>(
  { facts, run, enter }: Waiting,
  wait: Wait,
  look: () => Promise<T | undefined>,
): Promise<T> {
  const before = run.status.phase;
  let stands = false;
  let stoodStill = 0;
  for (let pause = 5_000; ; pause = Math.min(pause * 2, RECHECK_MS)) {
    run.woken = false;
    const found = await look();
    if (found !== undefined) {
      const { waiting, ...status } = run.status;
      run.status = status;
      if (waiting) run.progressAt = Date.now();
      return found;
    }
    const message = wait.message();
    if (run.status.waiting?.for !== message) {
      run.status = {
        ...run.status,
        waiting: { for: message, since: run.status.waiting?.since ?? new Date().toISOString() },
      };
      setCurrentDetails(message);
      await enter(wait.phase ?? before, { reason: wait.reason, message });
    }
    // until this look: the one before it may be minutes ago
    if (stands || !wait.counts) stoodStill = Date.now();
    stands = !wait.counts;
    const deadlineMs = run.deadlineMs ?? facts.deadlineMs;
    const since = Math.max(run.progressAt, stoodStill);
    const left = wait.counts ? since + deadlineMs - Date.now() : Infinity;
    const hasPassed = wait.counts && run.progressAt + deadlineMs <= Date.now();
    // asked no sooner: a history in which time did not stand still, or which ended here, stays as it was
    if (hasPassed && (left <= 0 || !patched(STOOD_STILL))) throw deadlineExceeded(deadlineMs, message);
    // what stood still in this run has not passed in the next one
    if (workflowInfo().continueAsNewSuggested) await leave({ facts, run }, since);
    await condition(() => run.woken, Math.min(pause, left));
  }
}

/**
 * Continues as new. Everything is level-based: a new run finds the claim, directory and mark of this one and waits on. Its deadline
 * counts from `progressAt`, ms since the epoch.
 */
export async function leave(
  { facts, run: { handedOn } }: Pick<Waiting, 'facts' | 'run'>,
  progressAt: number,
): Promise<never> {
  return await continueAsNew({ ...refOf(facts), progressAt, ...handedOn } satisfies DataVolumeStart);
}

/** Mark of the histories in which work looks around when its run is woken. */
const LOOKS_AROUND = 'look-around-while-working';

/**
 * See {@link Lifecycle.within}. However it ends, the work has ended too: nobody may undo what somebody still does. Work that
 * was finished before its cancellation came counts as finished.
 * @throws `DeadlineExceeded`
 */
export async function within<T>(
  { facts, run }: Pick<Waiting, 'facts' | 'run'>,
  { what, look }: { readonly what: string; readonly look?: (() => Promise<void>) | undefined },
  work: () => Promise<T>,
  measure: () => Promise<number>,
): Promise<T> {
  // as the user has it when the work begins, which keeps it
  const deadlineMs = run.deadlineMs ?? facts.deadlineMs;
  const scope = new CancellationScope();
  const done = scope.run(work);
  let ended = false;
  const end = (): void => void (ended = true);
  const watched = done.then(end, end);
  let failure: { readonly error: unknown } | undefined;
  if (look)
    lookAround(run, () => ended, look).catch((error: unknown) => {
      failure = { error };
    });
  const isOver = (): boolean => ended || failure !== undefined;
  try {
    for (let before = 0; !(await condition(isOver, deadlineMs));) {
      const now = await measure();
      if (now <= before) throw deadlineExceeded(deadlineMs, what);
      before = now;
    }
    if (failure && !ended) throw failure.error;
  } catch (error) {
    scope.cancel();
    await CancellationScope.nonCancellable(() => watched);
    return await done.catch(() => Promise.reject(error as Error));
  }
  run.progressAt = Date.now();
  return await done;
}

/** Looks whenever the signal `wake` comes, until the work is over. */
async function lookAround(run: Run, over: () => boolean, look: () => Promise<void>): Promise<void> {
  for (;;) {
    run.signalled = false;
    await condition(() => over() || run.signalled);
    // asked no sooner: a history without such a signal stays as it was
    if (over() || !patched(LOOKS_AROUND)) return;
    await look();
  }
}

function deadlineExceeded(deadlineMs: number, what: string): ApplicationFailure {
  return ApplicationFailure.create({
    type: 'DeadlineExceeded',
    message: `no progress for ${deadlineMs} ms (dvflow.io/deadline) while waiting: ${what}`,
    nonRetryable: true,
  });
}
