/** What the lifecycles share: opening the DataVolume, status, waiting, the deadline, compensation and how a run ends. */
import {
  ActivityFailure,
  ApplicationFailure,
  CancellationScope,
  condition,
  ContinueAsNew,
  continueAsNew,
  isCancellation,
  log,
  setCurrentDetails,
  setHandler,
  sleep,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import type {
  Condition,
  DataVolumeEvent,
  DataVolumeFacts,
  DataVolumeManifest,
  DataVolumeStart,
  ImageFacts,
  LifecycleInput,
  LifecycleStatus,
  Phase,
} from '../activities/types.js';
import { control } from './activity-options.js';
import { statusFor } from './conditions.js';
import { SEARCH_ATTRIBUTES, statusQuery, wakeSignal } from './messages.js';

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

/** A lifecycle as its workflow sees it. */
export interface Lifecycle {
  readonly facts: DataVolumeFacts;
  /** Enters a phase of CDI: status, conditions, event, search attribute. */
  enter(phase: Phase): Promise<void>;
  /** Says what is being done, for the query and the Temporal UI. */
  step(text: string): void;
  /** Adds what the query answers. */
  note(facts: Partial<Pick<LifecycleStatus, 'claim' | 'node' | 'image'>>): void;
  /** Something to undo when the run fails or is cancelled; last in, first out. */
  onFailure(what: string, undo: () => Promise<unknown>): void;
  /** From here on nothing is undone: the disk is the user's. */
  commit(): void;
  /** An event that does not change the phase. */
  event(event: DataVolumeEvent): Promise<void>;
  /** Looks until something is found; between looks it waits for `wake` or the re-check. @throws `DeadlineExceeded` */
  until<T>(wait: Wait, look: () => Promise<T | undefined>): Promise<T>;
  /** Awaits `work` as long as `measure` grows within each deadline; else cancels it. @throws `DeadlineExceeded` */
  within<T>(what: string, work: () => Promise<T>, measure: () => Promise<number>): Promise<T>;
}

interface Undo {
  readonly what: string;
  readonly run: () => Promise<unknown>;
}

/** State of one run; the query reads it. */
interface Run {
  status: LifecycleStatus;
  undo: Undo[];
  woken: boolean;
  /** Time of the last progress, ms since the epoch. */
  progressAt: number;
}

/**
 * Runs one lifecycle from its input to its end. A run that fails or is cancelled undoes what it did and leaves the DataVolume
 * `Failed`; failures pass through with their type.
 */
export async function runLifecycle<T>(
  input: LifecycleInput,
  body: (volume: Lifecycle) => Promise<T>,
): Promise<T | undefined> {
  const run: Run = {
    status: { namespace: '', name: '', phase: '', step: 'opening the DataVolume', conditions: [] },
    undo: [],
    woken: false,
    progressAt: Date.now(),
  };
  setHandler(statusQuery, () => run.status);
  setHandler(wakeSignal, () => {
    run.woken = true;
  });
  const facts = await open(input, run);
  if (facts.finished) return undefined;
  try {
    return await body(createLifecycle(facts, run));
  } catch (error) {
    if (error instanceof ContinueAsNew) throw error;
    await CancellationScope.nonCancellable(() => fail(facts, run, error));
    throw error;
  }
}

async function open(input: LifecycleInput, run: Run): Promise<DataVolumeFacts> {
  const start = asStart(input);
  if (start) {
    run.progressAt = start.progressAt ?? run.progressAt;
    identify(start, run);
    return await opened(control.openDataVolume({ start }), run);
  }
  const manifest = input as DataVolumeManifest | string;
  // The watch believes the mark only of an execution that names the DataVolume: so it is named before it exists.
  identify(await nameOf(manifest), run);
  return await opened(control.openDataVolume({ manifest }), run);
}

async function opened(opening: Promise<DataVolumeFacts>, run: Run): Promise<DataVolumeFacts> {
  const facts = await opening;
  const { namespace, name, uid, source, displayUrl, phase } = facts;
  run.status = { ...run.status, namespace, name, uid, source, displayUrl, phase };
  upsertSearchAttributes([
    { key: SEARCH_ATTRIBUTES.uid, value: uid },
    { key: SEARCH_ATTRIBUTES.source, value: source },
    { key: SEARCH_ATTRIBUTES.phase, value: phase === '' ? 'Pending' : phase },
  ]);
  return facts;
}

function identify({ namespace, name }: { namespace: string; name: string }, run: Run): void {
  run.status = { ...run.status, namespace, name };
  upsertSearchAttributes([
    { key: SEARCH_ATTRIBUTES.namespace, value: namespace },
    { key: SEARCH_ATTRIBUTES.name, value: name },
  ]);
}

function asStart(input: unknown): DataVolumeStart | undefined {
  if (typeof input === 'string') return undefined;
  if (typeof input !== 'object' || input === null) {
    throw ApplicationFailure.create({
      type: 'InvalidDataVolume',
      message: `the argument is ${input === null ? 'null' : typeof input}: give a DataVolume manifest as one JSON object`,
      nonRetryable: true,
    });
  }
  return 'uid' in input ? (input as DataVolumeStart) : undefined;
}

async function nameOf(manifest: DataVolumeManifest | string): Promise<{ namespace: string; name: string }> {
  if (typeof manifest === 'string') return await control.nameDataVolume({ manifest });
  return {
    namespace: String(manifest.metadata?.namespace ?? 'default'),
    name: String(manifest.metadata?.name ?? ''),
  };
}

function createLifecycle(facts: DataVolumeFacts, run: Run): Lifecycle {
  const ref = refOf(facts);
  async function enter(phase: Phase, waiting?: { reason: string; message: string }): Promise<void> {
    const update = statusFor(phase, { claim: facts.name, ...(waiting ? { waiting } : {}) });
    run.status = { ...run.status, phase, conditions: update.conditions ?? [] };
    upsertSearchAttributes([{ key: SEARCH_ATTRIBUTES.phase, value: phase }]);
    await control.recordStatus({ dataVolume: ref, ...update });
  }
  return {
    facts,
    enter: (phase) => enter(phase),
    step(text) {
      run.status = { ...run.status, step: text };
      setCurrentDetails(text);
    },
    note(noted: { claim?: LifecycleStatus['claim']; node?: string; image?: ImageFacts }) {
      run.status = { ...run.status, ...noted } as LifecycleStatus;
    },
    onFailure(what, undo) {
      run.undo.push({ what, run: undo });
    },
    commit() {
      run.undo = [];
    },
    async event(event) {
      await control.recordStatus({ dataVolume: ref, event });
    },
    until: (wait, look) => until({ facts, run, enter }, wait, look),
    within: (what, work, measure) => within({ facts, run }, what, work, measure),
  };
}

interface Waiting {
  readonly facts: DataVolumeFacts;
  readonly run: Run;
  readonly enter: (phase: Phase, waiting?: { reason: string; message: string }) => Promise<void>;
}

async function until<T>(
  { facts, run, enter }: Waiting,
  wait: Wait,
  look: () => Promise<T | undefined>,
): Promise<T> {
  const before = run.status.phase;
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
    const left = wait.counts ? run.progressAt + facts.deadlineMs - Date.now() : Infinity;
    if (left <= 0) throw deadlineExceeded(facts, message);
    if (workflowInfo().continueAsNewSuggested) {
      // Everything is level-based: a new run finds the claim, directory and mark of this one and waits on.
      await continueAsNew({ ...refOf(facts), progressAt: run.progressAt } satisfies DataVolumeStart);
    }
    await condition(() => run.woken, Math.min(pause, left));
  }
}

async function within<T>(
  { facts, run }: Pick<Waiting, 'facts' | 'run'>,
  what: string,
  work: () => Promise<T>,
  measure: () => Promise<number>,
): Promise<T> {
  const scope = new CancellationScope();
  let settled = false;
  const done = scope.run(work).finally(() => {
    settled = true;
  });
  for (let before = 0; !(await settledWithin(() => settled, done, facts.deadlineMs));) {
    const now = await measure();
    if (now <= before) {
      scope.cancel();
      await done.catch(() => undefined);
      throw deadlineExceeded(facts, what);
    }
    before = now;
  }
  run.progressAt = Date.now();
  return await done;
}

/** Whether the work ended in time; its failure counts as an end and is thrown by whoever awaits it. */
async function settledWithin(settled: () => boolean, done: Promise<unknown>, ms: number): Promise<boolean> {
  done.catch(() => undefined);
  return await condition(settled, ms);
}

function deadlineExceeded(facts: DataVolumeFacts, what: string): ApplicationFailure {
  return ApplicationFailure.create({
    type: 'DeadlineExceeded',
    message: `no progress for ${facts.deadlineMs} ms (dvflow.io/deadline) while waiting: ${what}`,
    nonRetryable: true,
  });
}

/** Undoes and says why. The status does not wait longer than 5 s for a node that is away. */
async function fail(facts: DataVolumeFacts, run: Run, error: unknown): Promise<void> {
  const failure = failureOf(error);
  run.status = { ...run.status, step: 'cleaning up', failure };
  const undone = undoAll(facts, run);
  await Promise.race([undone, sleep('5s')]);
  const update = statusFor('Failed', { claim: facts.name, failure });
  run.status = { ...run.status, phase: 'Failed', conditions: update.conditions as readonly Condition[] };
  upsertSearchAttributes([{ key: SEARCH_ATTRIBUTES.phase, value: 'Failed' }]);
  await control.recordStatus({ dataVolume: refOf(facts), ...update });
  await undone;
  run.status = { ...run.status, step: failure.type === 'Cancelled' ? 'cancelled' : 'failed' };
}

async function undoAll(facts: DataVolumeFacts, run: Run): Promise<void> {
  for (const { what, run: undo } of run.undo.reverse()) {
    try {
      await undo();
    } catch (error) {
      log.error('clean-up failed, left to the sweeper', { what, error });
      const message = `could not ${what}: ${messageOf(error)}; the sweeper will`;
      await control.recordStatus({
        dataVolume: refOf(facts),
        event: { type: 'Warning', reason: 'CleanupDeferred', message },
      });
    }
  }
  run.undo = [];
}

function failureOf(error: unknown): { type: string; message: string } {
  if (isCancellation(error)) return { type: 'Cancelled', message: 'the import was cancelled' };
  const cause = error instanceof ActivityFailure ? error.cause : error;
  const type = cause instanceof ApplicationFailure ? cause.type : undefined;
  return { type: type ?? 'Error', message: messageOf(cause) };
}

function messageOf(error: unknown): string {
  if (error instanceof ActivityFailure && error.cause) return messageOf(error.cause);
  return error instanceof Error ? error.message : String(error);
}

function refOf({ namespace, name, uid }: DataVolumeFacts): { namespace: string; name: string; uid: string } {
  return { namespace, name, uid };
}
