/** What the lifecycles share: opening the DataVolume, status, waiting, the deadline, compensation and how a run ends. */
import {
  CancellationScope,
  ContinueAsNew,
  isCancellation,
  patched,
  sleep,
  upsertSearchAttributes,
} from '@temporalio/workflow';
import type {
  DataVolumeFacts,
  DataVolumeManifest,
  DataVolumeRef,
  DataVolumeStart,
  LifecycleInput,
  Phase,
} from '../activities/types.js';
import { control } from './activity-options.js';
import { continues, requireArgument, type Wanted } from './arguments.js';
import { statusFor } from './conditions.js';
import { fail } from './ending.js';
import { SEARCH_ATTRIBUTES } from './messages.js';
import { leavePhase } from './metrics.js';
import { openRun, stepsOf } from './run.js';
import { refOf, type Run } from './run-state.js';
import type { Entered, Lifecycle } from './volume-lifecycle.js';
import { leave, until, within } from './waiting.js';

/** Histories of before have failed there. */
const AWAITS_CANCEL = 'a run whose DataVolume is gone awaits its cancel';

/** Mark of the histories whose run keeps the plan of the one before. */
const KEEPS_PLAN = 'keeps the plan of the run before';

/** The watch tells a run within a second or so. */
const CANCEL_COMES = '10s';

/**
 * Runs one lifecycle from its input to its end. A run that fails or is cancelled undoes what it did and leaves the DataVolume
 * `Failed`; failures pass through with their type.
 */
export async function runLifecycle<T>(
  input: LifecycleInput,
  body: (volume: Lifecycle) => Promise<T>,
): Promise<T | undefined> {
  const step = 'opening the DataVolume';
  const run = openRun({ namespace: '', name: '', phase: '', step, conditions: [] });
  const start = asStart(input);
  let ref: DataVolumeRef | undefined = start;
  try {
    const facts = await (start
      ? openStart(start, run)
      : openManifest(input as DataVolumeManifest | string, run));
    if (facts.finished) return undefined;
    ref = refOf(facts);
    return await body(createLifecycle(facts, run));
  } catch (error) {
    if (error instanceof ContinueAsNew) throw error;
    // Without a uid nothing was made for it, and nobody has a phase to read.
    const made = ref;
    const exists = !made || (await CancellationScope.nonCancellable(() => fail(made, run, error)));
    // its claim goes with it, and a look at that may be faster than the cancel of a run whose DataVolume is gone
    if (!exists && !isCancellation(error) && patched(AWAITS_CANCEL)) await sleep(CANCEL_COMES);
    throw error;
  }
}

async function openStart(start: DataVolumeStart, run: Run): Promise<DataVolumeFacts> {
  if (continues()) {
    run.progressAt = start.progressAt ?? run.progressAt;
    const { target, image, clone } = start;
    if (clone) run.handedOn.clone = clone;
    // a worker of before, which may have begun this run, plans and inspects again
    if (target && patched(KEEPS_PLAN)) Object.assign(run.handedOn, { target, ...(image && { image }) });
  }
  identify(start, run);
  return await opened(control.openDataVolume({ start }), run);
}

async function openManifest(manifest: DataVolumeManifest | string, run: Run): Promise<DataVolumeFacts> {
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

/** What starts a lifecycle by reference. */
const START: Wanted = {
  type: 'InvalidDataVolume',
  give: 'a DataVolume manifest, which has no uid beside its metadata, as one JSON object, or namespace, name and uid of a DataVolume',
  members: { namespace: 'name', name: 'name', uid: 'name', retry: 'text?' },
};

/** What starts one by manifest: the API server judges all but its name. */
const MANIFEST = {
  type: 'InvalidDataVolume',
  give: 'a DataVolume manifest as one JSON object, or its JSON or YAML text',
  members: {},
} as const satisfies Wanted;

const METADATA: Wanted = {
  ...MANIFEST,
  members: { name: 'name', namespace: 'name?' },
  within: 'metadata',
};

/**
 * The reference that the argument is, if it is no manifest.
 * @throws {@link FailureType} `InvalidDataVolume` for half a reference: nobody could be told of its failure
 */
export function asStart(input: unknown): DataVolumeStart | undefined {
  if (typeof input === 'string') return undefined;
  requireArgument(input, MANIFEST);
  if (!('uid' in (input as object))) {
    requireArgument((input as { metadata?: unknown }).metadata, METADATA);
    return undefined;
  }
  requireArgument(input, START);
  return input as DataVolumeStart;
}

async function nameOf(manifest: DataVolumeManifest | string): Promise<{ namespace: string; name: string }> {
  if (typeof manifest === 'string') {
    const named = await control.nameDataVolume({ manifest });
    requireArgument(named, METADATA);
    return named;
  }
  const { namespace = 'default', name = '' } = manifest.metadata;
  return { namespace, name };
}

function createLifecycle(facts: DataVolumeFacts, run: Run): Lifecycle {
  const ref = refOf(facts);
  const { name: claim, namespace, source, displayUrl: from } = facts;
  const told = { claim, namespace, source, from };
  /** Phases are written one after the other, also where the lifecycle goes on meanwhile. */
  let written: Promise<unknown> = Promise.resolve();
  async function enter(phase: Phase, more: Entered = {}): Promise<void> {
    const { restartCount, ...rest } = more;
    const update = {
      ...statusFor(phase, { ...told, ...rest }),
      ...(restartCount === undefined ? {} : { restartCount }),
    };
    if (phase !== run.status.phase) leavePhase(run);
    run.status = { ...run.status, phase, conditions: update.conditions ?? [] };
    upsertSearchAttributes([{ key: SEARCH_ATTRIBUTES.phase, value: phase }]);
    const before = written.catch(() => undefined);
    written = before.then(() => control.recordStatus({ dataVolume: ref, ...update }));
    await written;
  }
  return {
    ...stepsOf(run),
    facts,
    enter: (phase, more) => enter(phase, more),
    onFailure(what, undo, more = {}) {
      run.undo.push({ what, run: undo, ...more });
    },
    async event(event) {
      await control.recordStatus({ dataVolume: ref, event });
    },
    until: (wait, look) =>
      until({ facts, run, enter: (phase, waiting) => enter(phase, waiting ? { waiting } : {}) }, wait, look),
    within: (what, work, measure, look) => within({ facts, run }, { what, look }, work, measure),
    leave: (moved) => leave({ facts, run }, moved ? Date.now() : run.progressAt),
  };
}
