/**
 * Carries the heartbeats of transfers into `.status.progress`, and why an attempt failed into the message of condition `Running`
 * where the workflow left that empty: all that is written here. Notices runs that ended without a word.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from '@temporalio/common';
import { tellsOfAttempt, wordsOf, type FailedAttempt } from '../../activities/kubernetes/attempts.js';
import { isTerminal } from '../../activities/kubernetes/data-volume-facts.js';
import type { DataVolumeStatus } from '../../activities/kubernetes/objects.js';
import { mergeConditions } from '../../activities/kubernetes/status.js';
import type { Phase, TransferProgress } from '../../activities/types.js';
import type { DataVolumeWrites } from './data-volume-writes.js';
import type { DataVolumeWatch, ServedDataVolume } from './data-volumes.js';
import { keyOf } from './list-watch.js';
import type { RunFacts, Runs } from './runs.js';

/** One look a second at each transfer. */
const ROUND_MS = 1_000;

/** Looks a second, over all DataVolumes: where more of them move, each is looked at less often. */
const MOST_A_SECOND = 200;

/** Looks a second that those waiting get however much moves: a run that ended unheard is to be noticed all the same. */
const WAITING_A_SECOND = 20;

/** Runs that move no bytes are only looked at to see that they live, in ms. */
const IDLE_MS = 5_000;

/** Phases in which bytes move. */
export const TRANSFER_PHASES: ReadonlySet<Phase | undefined> = new Set<Phase>([
  'ImportInProgress',
  'UploadReady',
  'CloneInProgress',
]);

/** Two figures of a status. */
export type ProgressStatus = Required<Pick<DataVolumeStatus, 'progress' | 'restartCount'>>;

/** What the poller works with. */
export interface ProgressOptions {
  readonly watch: Pick<DataVolumeWatch, 'served' | 'get' | 'doubt'>;
  readonly runs: Pick<Runs, 'describe'>;
  readonly writes: Pick<DataVolumeWrites, 'progress'>;
  readonly logger: Pick<Logger, 'debug'>;
  /** Told how long a round took, in ms: above a second, progress is slower than promised. */
  readonly observeRound?: ((ms: number) => void) | undefined;
}

/** Bytes move. An upload that nobody has begun may wait for days: it is none of them. */
function moves({ phase, progress = 'N/A' }: DataVolumeStatus = {}): boolean {
  return TRANSFER_PHASES.has(phase) && !(phase === 'UploadReady' && progress === 'N/A');
}

/** Those to be looked at. */
export interface DueLooks {
  /** Their progress is shown second by second. */
  readonly moving: ServedDataVolume[];
  /** Queued, or waiting for room or a consumer: thousands of them may be, and none of them holds up those that move. */
  readonly waiting: ServedDataVolume[];
}

/** Who is due at this time, by when each was looked at; first who has waited longest for a look. */
export function dueLooks(
  served: readonly ServedDataVolume[],
  lookedAt: ReadonlyMap<string, number>,
  now: number,
): DueLooks {
  const last = ({ dataVolume }: ServedDataVolume): number => lookedAt.get(dataVolume.metadata.uid) ?? 0;
  const sorted = served.toSorted((a, b) => last(a) - last(b));
  // One that has no phase yet may have a run that could not even open it: that is to be said at once.
  const isDue = (one: ServedDataVolume): boolean =>
    !one.dataVolume.status?.phase || now - last(one) >= IDLE_MS;
  return {
    moving: sorted.filter(({ dataVolume }) => moves(dataVolume.status)),
    waiting: sorted.filter((one) => !moves(one.dataVolume.status) && isDue(one)),
  };
}

/** Takes those that are looked at in one second out of those that are due. */
export function takeLooks({ moving, waiting }: DueLooks): ServedDataVolume[] {
  const first = moving.splice(0, MOST_A_SECOND - Math.min(waiting.length, WAITING_A_SECOND));
  return [...first, ...waiting.splice(0, MOST_A_SECOND - first.length)];
}

/** Starts to look, until stopped. */
export function startProgress(options: ProgressOptions): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const lookedAt = new Map<string, number>();

  /** One look at each that moves, and at as many of the others as there is time for. */
  async function round(): Promise<void> {
    const startedAt = Date.now();
    const served = options.watch.served();
    const known = new Set(served.map(({ dataVolume }) => dataVolume.metadata.uid));
    for (const uid of lookedAt.keys()) if (!known.has(uid)) lookedAt.delete(uid);
    const due = dueLooks(served, lookedAt, startedAt);
    do {
      const next = AbortSignal.timeout(ROUND_MS);
      await Promise.all(takeLooks(due).map(lookAt));
      if (!next.aborted) await once(next, stopping.signal);
    } while (due.moving.length > 0 && !stopping.signal.aborted);
    options.observeRound?.(Date.now() - startedAt);
  }

  async function lookAt({ dataVolume, workflowId }: ServedDataVolume): Promise<void> {
    const { namespace, name, uid } = dataVolume.metadata;
    lookedAt.set(uid, Date.now());
    try {
      const run = await options.runs.describe(workflowId);
      if (!run?.running) options.watch.doubt(keyOf(dataVolume));
      else await show(keyOf(dataVolume), uid, run);
    } catch (error) {
      // The next look says the same or better; nothing depends on this one.
      options.logger.debug('progress was not updated', { namespace, name, error });
    }
  }

  async function show(key: string, uid: string, run: RunFacts): Promise<void> {
    // As it is now: the answer took a while.
    const dataVolume = options.watch.get(key);
    if (dataVolume?.metadata.uid !== uid || isTerminal(dataVolume.status?.phase)) return;
    const { status } = dataVolume;
    const progress = nextProgress(status, run.transfer);
    const message = nextMessage(status, run.failed, new Date());
    if (progress || message) await options.writes.progress(dataVolume, { ...progress, ...message });
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) await round();
  }

  const running = run();
  return {
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

/**
 * Progress after a heartbeat, or `undefined` where nothing is new. Within one attempt it never goes back; a new attempt may
 * start lower, and counts from its first heartbeat with a figure, so that what the last one left is not taken for its own.
 */
export function nextProgress(
  status: DataVolumeStatus | undefined,
  transfer: TransferProgress | undefined,
): ProgressStatus | undefined {
  const { phase, progress = 'N/A', restartCount = 0 } = status ?? {};
  if (!transfer || !TRANSFER_PHASES.has(phase)) return undefined;
  const restarts = Math.max(restartCount, transfer.attempt - 1);
  const told = formatProgress(transfer.fraction);
  if (told === 'N/A' && progress !== 'N/A') return undefined;
  const next = restarts === restartCount ? later(progress, told) : told;
  if (next === progress && restarts === restartCount) return undefined;
  return { progress: next, restartCount: restarts };
}

/**
 * Conditions that tell of the attempt that failed last, or no longer tell of it, or `undefined` where nothing is new. Nothing but
 * the message of `Running` changes, and only one that was empty: whatever the workflow says goes before.
 */
export function nextMessage(
  status: DataVolumeStatus | undefined,
  failed: FailedAttempt | undefined,
  at: Date,
): Required<Pick<DataVolumeStatus, 'conditions'>> | undefined {
  const { conditions = [] } = status ?? {};
  const running = conditions.find(({ type }) => type === 'Running');
  const { message: before = '' } = running ?? {};
  const message = failed ? wordsOf(failed) : '';
  if (!running || message === before || !(before === '' || tellsOfAttempt(before))) return undefined;
  return { conditions: mergeConditions(conditions, [{ ...running, message }], at) };
}

/** `45.30%`, as CDI writes it; `N/A` without an honest denominator. Never 100 %: that is said after verification. */
export function formatProgress(fraction: number | undefined): string {
  if (fraction === undefined || !Number.isFinite(fraction)) return 'N/A';
  const hundredths = Math.floor(Math.max(0, fraction) * 10_000);
  return `${(Math.min(hundredths, 9_999) / 100).toFixed(2)}%`;
}

/** The later of two, where `N/A` is before everything. */
function later(before: string, after: string): string {
  const [a, b] = [Number.parseFloat(before), Number.parseFloat(after)];
  if (Number.isNaN(b)) return before;
  return Number.isNaN(a) || b > a ? after : before;
}

async function once(signal: AbortSignal, stopping: AbortSignal): Promise<void> {
  await pause(ROUND_MS * 2, undefined, { signal: AbortSignal.any([signal, stopping]) }).catch(
    () => undefined,
  );
}
