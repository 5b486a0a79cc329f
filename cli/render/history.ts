import type { History, Payload } from '@temporalio/common/lib/proto-utils.js';
import type { ImportResult } from '../../activities/types.js';
import { duration, span } from './figures.js';
import { resultWords, STEPS, type StepWords } from './steps.js';

/** One thing that happened, in plain words. */
export interface HistoryLine {
  /** Time of the event, or of the step's start; ms since the epoch. */
  readonly at: number;
  readonly text: string;
  /** How long the step took, attempts and waiting included, in ms. */
  readonly tookMs?: number;
}

type Event = NonNullable<History['events']>[number];
type Failure = NonNullable<NonNullable<Event['activityTaskFailedEventAttributes']>['failure']>;

/** Facts of earlier events that later ones point at, by event id. */
interface Seen {
  readonly scheduled: Map<string, { readonly activity: string; readonly at: number }>;
  readonly started: Map<string, { readonly attempt: number; readonly lastFailure?: Failure }>;
  readonly timers: Map<string, number>;
  phase: string;
}

/** Tells a lifecycle's history: phases, steps with times and attempts, waits, failures, and how it ended. */
export function tellHistory(history: History): readonly HistoryLine[] {
  const seen: Seen = { scheduled: new Map(), started: new Map(), timers: new Map(), phase: '' };
  const lines = (history.events ?? []).flatMap((event) => tellEvent(event, seen));
  return [...lines, ...tellOpen(seen)].sort((a, b) => a.at - b.at);
}

function tellEvent(event: Event, seen: Seen): readonly HistoryLine[] {
  note(event, seen);
  const at = millis(event.eventTime);
  const text = tellMoment(event, seen) ?? tellEnd(event);
  return text === undefined ? tellStep(event, seen, at) : [{ at, text }];
}

function note(event: Event, { scheduled, started, timers }: Seen): void {
  const id = String(event.eventId);
  const activity = event.activityTaskScheduledEventAttributes?.activityType?.name;
  if (activity) scheduled.set(id, { activity, at: millis(event.eventTime) });
  const attempt = event.activityTaskStartedEventAttributes;
  if (attempt) {
    const { lastFailure } = attempt;
    started.set(String(attempt.scheduledEventId), {
      attempt: attempt.attempt ?? 1,
      ...(lastFailure ? { lastFailure } : {}),
    });
  }
  const timer = event.timerStartedEventAttributes;
  if (timer) timers.set(id, millis(timer.startToFireTimeout));
}

/** Start, phases, signals, timers: what takes no time. */
function tellMoment(event: Event, seen: Seen): string | undefined {
  if (event.workflowExecutionStartedEventAttributes)
    return tellStart(event.workflowExecutionStartedEventAttributes);
  const fields = event.upsertWorkflowSearchAttributesEventAttributes?.searchAttributes?.indexedFields;
  const phase = fields?.DataVolumePhase && valueOf(fields.DataVolumePhase);
  if (typeof phase === 'string' && phase !== seen.phase) {
    seen.phase = phase;
    return `phase ${phase}`;
  }
  const fired = event.timerFiredEventAttributes;
  if (fired) return `waited ${duration(seen.timers.get(String(fired.startedEventId)) ?? 0)}`;
  const signal = event.workflowExecutionSignaledEventAttributes?.signalName;
  // The watch wakes a run whenever anything near it changes: what comes of it is told by the steps that follow.
  if (signal && signal !== 'wake') return `signal ${signal}`;
  if (event.workflowExecutionCancelRequestedEventAttributes) return 'cancellation asked for';
  const broken = event.workflowTaskFailedEventAttributes;
  return broken ? `the workflow's code stumbled: ${tellFailure(broken.failure)}` : undefined;
}

function tellStart(start: NonNullable<Event['workflowExecutionStartedEventAttributes']>): string {
  const input = start.input?.payloads?.[0] && valueOf(start.input.payloads[0]);
  if (start.continuedExecutionRunId) return 'went on as a new run, to keep the history short';
  const { uid, retry } = (typeof input === 'object' && input !== null ? input : {}) as {
    uid?: string;
    retry?: string;
  };
  if (uid === undefined) return 'started from Temporal with a manifest';
  return `started by the watch for DataVolume ${uid}${retry === undefined ? '' : `, as retry ${retry}`}`;
}

function tellEnd(event: Event): string | undefined {
  const completed = event.workflowExecutionCompletedEventAttributes;
  if (completed) {
    const [payload] = completed.result?.payloads ?? [];
    return `finished: ${resultWords(payload && (valueOf(payload) as ImportResult))}`;
  }
  const failed = event.workflowExecutionFailedEventAttributes;
  if (failed) return `failed: ${tellFailure(failed.failure)}`;
  if (event.workflowExecutionCanceledEventAttributes) return 'cancelled: everything that was made is removed';
  const terminated = event.workflowExecutionTerminatedEventAttributes;
  if (terminated)
    return `terminated${terminated.reason ? ` (${terminated.reason})` : ''}: the sweeper removes what is left`;
  if (event.workflowExecutionContinuedAsNewEventAttributes) return 'goes on in a new run';
  return undefined;
}

function tellStep(event: Event, seen: Seen, at: number): readonly HistoryLine[] {
  const completed = event.activityTaskCompletedEventAttributes;
  const failed = event.activityTaskFailedEventAttributes ?? event.activityTaskTimedOutEventAttributes;
  const canceled = event.activityTaskCanceledEventAttributes;
  const id = String((completed ?? failed ?? canceled)?.scheduledEventId);
  const step = seen.scheduled.get(id);
  if (!step) return [];
  seen.scheduled.delete(id);
  const { words, outcome, quiet } = wordsOf(step.activity);
  const failure = failed ? tellFailure(failed.failure) : undefined;
  const tried = triedText(seen.started.get(id), failure);
  if (quiet && completed && tried === '') return [];
  const [payload] = completed?.result?.payloads ?? [];
  const said = failure ? `failed: ${failure}` : canceled ? 'stopped' : payload && outcome?.(valueOf(payload));
  return [{ at: step.at, text: `${words}${said ? `: ${said}` : ''}${tried}`, tookMs: at - step.at }];
}

/** Steps that no event has closed: under way, or cut off by a termination. */
function tellOpen({ scheduled }: Seen): readonly HistoryLine[] {
  return [...scheduled.values()].map(({ activity, at }) => ({
    at,
    text: `${wordsOf(activity).words}: not finished`,
  }));
}

function wordsOf(activity: string): StepWords {
  return STEPS[activity] ?? { words: activity };
}

/** Which attempt it was, and what the one before failed of, unless that is what it failed of in the end. */
function triedText(
  started: { attempt: number; lastFailure?: Failure } | undefined,
  failure?: string,
): string {
  if (!started || started.attempt <= 1) return '';
  const before = tellFailure(started.lastFailure);
  return ` (attempt ${started.attempt}${before === failure ? '' : `; the one before: ${before}`})`;
}

/** The failure at the bottom of the chain: `SourceNotFound: …`. */
export function tellFailure(failure: Failure | null | undefined): string {
  if (!failure) return 'no reason given';
  const type = failure.applicationFailureInfo?.type;
  if (type && type !== 'Error') return `${type}: ${failure.message ?? ''}`;
  return failure.cause ? tellFailure(failure.cause) : (failure.message ?? 'no reason given');
}

/** Value of a payload that no codec has touched; `undefined` for any other. */
function valueOf({ data, metadata }: Payload): unknown {
  const encoding = metadata?.encoding && Buffer.from(metadata.encoding).toString();
  if (encoding !== 'json/plain' || !data) return undefined;
  return JSON.parse(Buffer.from(data).toString()) as unknown;
}

function millis(
  time: { readonly seconds?: unknown; readonly nanos?: number | null } | null | undefined,
): number {
  return Number(time?.seconds ?? 0) * 1000 + Math.round((time?.nanos ?? 0) / 1e6);
}

/** Lines with time of day, offset since the first and duration. */
export function historyText(lines: readonly HistoryLine[]): string {
  const start = lines[0]?.at ?? 0;
  return lines
    .map(({ at, text, tookMs }) => {
      const clock = new Date(at).toISOString().slice(11, 19);
      const took = tookMs === undefined ? '' : `  [${span(tookMs)}]`;
      return `  ${clock}  +${span(at - start).padEnd(7)} ${text}${took}`;
    })
    .join('\n');
}
