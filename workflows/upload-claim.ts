import { CancellationScope, ContinueAsNew, patched, setHandler, workflowInfo } from '@temporalio/workflow';
import type { UploadClaim, UploadClaimInput } from '../activities/types/upload.js';
import type {
  ClaimRef,
  DataVolumeEvent,
  FillTarget,
  ImportResult,
  Phase,
  TargetPlan,
} from '../activities/types.js';
import { control, emptying, onNode } from './activity-options.js';
import { continues, requireClaim } from './arguments.js';
import { awaitConsumer } from './claim.js';
import { statusFor } from './conditions.js';
import { failureOf, undoAll } from './ending.js';
import type { Lifecycle } from './volume-lifecycle.js';
import { withdrawSignal } from './messages.js';
import { isClaimLost } from './offer.js';
import { reserveOnSomeNode } from './placement.js';
import { publish, unmark } from './publication.js';
import { resultOf } from './result.js';
import { openRun, stepsOf, undoOnce } from './run.js';
import type { Run } from './run-state.js';
import { createUploadDesk, type Trouble, type UploadDesk } from './upload-desk.js';
import { isAskedNoMore, receiveDisk } from './upload.js';
import { leave, until, within } from './waiting.js';

/** Mark of the histories in which a node is told which run fills a claim's volume. */
const BY_RUN = 'tells its node which run it is';

/**
 * Fills a claim that asks for an upload (`cdi.kubevirt.io/storage.upload.target`) and has no DataVolume: a Pending one gets a volume
 * when its disk is complete, a Bound one is filled in place. What a DataVolume would say is said by annotations and events on it. The
 * claim is its user's and is never removed.
 * @throws every {@link FailureType} of a target and of time, as the `type` of an `ApplicationFailure`; `InvalidArgument`
 */
export async function uploadClaim(input: UploadClaimInput): Promise<ImportResult | undefined> {
  const claim = requireClaim(input, { retry: 'text?' });
  const handedOn = continues() ? input : undefined;
  const begun = { source: 'upload', phase: '', step: 'reading the claim', conditions: [] } as const;
  const run = openRun({ ...claim, ...begun }, handedOn?.progressAt);
  let withdrawn = false;
  setHandler(withdrawSignal, () => {
    withdrawn = true;
  });
  const desk = createUploadDesk({ wake: () => (run.woken = true), step: () => run.status.step });
  try {
    return await upload(run, { claim, desk, retry: input.retry, carried: handedOn?.upload });
  } catch (error) {
    if (error instanceof ContinueAsNew) {
      // no end for its clients
      await desk.handOver();
      throw error;
    }
    const isWithdrawn = (): boolean => withdrawn || isAskedNoMore(error);
    await CancellationScope.nonCancellable(() => fail(run, claim, error, isWithdrawn));
    // nobody waits for a claim that is gone
    if (isClaimLost(error)) return undefined;
    throw error;
  } finally {
    await desk.close('ResourceExists', 'the upload is over: its disk is complete, or it has failed');
  }
}

async function upload(
  run: Run,
  {
    claim,
    desk,
    retry,
    carried,
  }: {
    claim: ClaimRef;
    desk: UploadDesk;
    retry: string | undefined;
    carried: UploadClaimInput['upload'];
  },
): Promise<ImportResult | undefined> {
  const opened = await control.openUploadClaim({ claim, ...(retry === undefined ? {} : { retry }) });
  const volume = createLifecycle(opened.facts, claim, run);
  const ready = await awaitTarget(volume, claim, opened);
  if (!ready) return undefined;
  const { target, bound } = ready;
  await awaitConsumer(volume, claim, target);
  if (volume.facts.phase !== 'UploadReady') await volume.enter('UploadScheduled');
  const directory: FillTarget = bound
    ? await prepareInPlace(volume, claim, { target, bound })
    : await reserveOnSomeNode(volume, { claim, target });
  volume.note({ claim, node: directory.node });
  const refuse = (): Promise<Trouble | undefined> => whyNot(claim);
  const uploading = { claim, target, directory, asked: true, ...(bound ? { refuse } : {}) };
  const { transferred, tidy, session } = await receiveDisk(volume, uploading, desk, carried);
  desk.finish(session);
  await desk.close('ResourceExists', 'the disk is complete: it is being published');
  const filled = { claim, target, directory, transferred, tidy };
  const published = bound ? await keepInPlace(volume, filled) : await publish(volume, filled);
  return { ...resultOf({ claim, node: directory.node, ...published }, transferred), session };
}

/** Waits for what the claim needs first: to be Bound by whoever binds it, and that no pod uses it. */
async function awaitTarget(
  volume: Lifecycle,
  claim: ClaimRef,
  opened: UploadClaim,
): Promise<(Required<Pick<UploadClaim, 'target'>> & Pick<UploadClaim, 'bound'>) | undefined> {
  volume.step('planning the target');
  let latest = opened;
  let first = true;
  const wait = {
    get reason() {
      return latest.waiting?.reason ?? 'Pending';
    },
    get counts() {
      return latest.waiting?.counts ?? false;
    },
    message: () => latest.waiting?.message ?? '',
  };
  const found = await volume.until(wait, async () => {
    if (!first) latest = await control.openUploadClaim({ claim });
    first = false;
    return latest.waiting ? undefined : latest;
  });
  return found.target && { target: found.target, ...(found.bound ? { bound: found.bound } : {}) };
}

async function prepareInPlace(
  volume: Lifecycle,
  claim: ClaimRef,
  {
    target,
    bound: found,
  }: { readonly target: TargetPlan; readonly bound: NonNullable<UploadClaim['bound']> },
): Promise<FillTarget> {
  // the claim has been its user's between two runs
  const bound = patched(BY_RUN) ? { ...found, tenure: workflowInfo().firstExecutionRunId } : found;
  const { node } = bound;
  volume.step(`looking at PersistentVolume ${bound.volume} on node ${node}`);
  volume.onFailure(
    'take back what was written',
    () => emptying(node, { isSwept: false }).emptyReservedVolume({ volume: bound }),
    { isSwept: false },
  );
  const archive = volume.facts.contentType === 'archive';
  const requestBytes = target.usableBytes;
  const work = (): Promise<void> =>
    onNode(node).prepareVolume({ volume: bound, claim, requestBytes, archive });
  await volume.within(`node ${node} to look at PersistentVolume ${bound.volume}`, work, async () => 0);
  return bound;
}

/** A pod may have begun to use a Bound claim while nobody sent. */
async function whyNot(claim: ClaimRef): Promise<Trouble | undefined> {
  const { waiting } = await control.openUploadClaim({ claim });
  return waiting && { type: waiting.reason, message: waiting.message };
}

/** The claim has been Bound to it all the time. */
async function keepInPlace(
  volume: Lifecycle,
  { directory, tidy }: { readonly directory: FillTarget; readonly tidy: () => Promise<void> },
): Promise<{ readonly volume?: string }> {
  volume.commit();
  return await CancellationScope.nonCancellable(async () => {
    await tidy();
    await volume.enter('Succeeded');
    await unmark(volume, directory);
    volume.step('finished');
    return 'volume' in directory ? { volume: directory.volume } : {};
  });
}

/** The claim as a lifecycle sees a DataVolume: phases become annotations, events are the claim's. */
function createLifecycle(facts: Lifecycle['facts'], claim: ClaimRef, run: Run): Lifecycle {
  const enter: Lifecycle['enter'] = async (phase: Phase, more = {}) => {
    const {
      podPhase,
      podReady,
      event: said,
      conditions,
    } = statusFor(phase, { claim: claim.name, source: 'upload', ...more });
    run.status = { ...run.status, phase, conditions: conditions ?? [] };
    const event = said ?? eventOf(more.waiting);
    const told = {
      ...(podPhase === undefined ? {} : { podPhase }),
      ...(podReady === undefined ? {} : { podReady }),
      ...(event ? { event } : {}),
    };
    if (Object.keys(told).length > 0) await control.recordUploadClaim({ claim, ...told });
  };
  return {
    ...stepsOf(run),
    facts,
    enter,
    event: (event) => say(claim, event),
    onFailure: undoOnce(run),
    until: (wait, look) =>
      until({ facts, run, enter: (phase, waiting) => enter(phase, waiting ? { waiting } : {}) }, wait, look),
    within: (what, work, measure, look) => within({ facts, run }, { what, look }, work, measure),
    leave: (moved) => leave({ facts, run }, moved ? Date.now() : run.progressAt),
  };
}

/** A claim has no conditions of an upload: what keeps it waiting, or was wrong with the last try, is said by an event. */
function eventOf(waiting: { reason: string; message: string } | undefined): DataVolumeEvent | undefined {
  if (!waiting || waiting.reason === 'UploadReady') return undefined;
  return { type: waiting.reason === 'UploadFailed' ? 'Warning' : 'Normal', ...waiting };
}

async function say(claim: ClaimRef, event: DataVolumeEvent): Promise<void> {
  await control.recordUploadClaim({ claim, event });
}

/**
 * Everything of dvflow's goes; the claim stays and says why it has no disk. One that has ceased to ask may ask again by then: the end
 * of this run is no answer to that, and a failure would be the last word of it.
 */
async function fail(run: Run, claim: ClaimRef, error: unknown, isWithdrawn: () => boolean): Promise<void> {
  const { type, message } = failureOf(error, 'upload');
  run.status = { ...run.status, step: 'cleaning up', failure: { type, message } };
  await undoAll(run, { event: (said) => say(claim, said) });
  const event = { type: 'Warning', reason: type, message } as const;
  const withdrawn = isWithdrawn() ? { withdrawn: true } : {};
  await control.recordUploadClaim({ claim, podPhase: 'Failed', podReady: false, event, ...withdrawn });
  run.status = { ...run.status, phase: 'Failed', step: type === 'Cancelled' ? 'cancelled' : 'failed' };
}
