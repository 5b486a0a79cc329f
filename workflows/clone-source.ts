/** The source of a clone in its lifecycle: waited for until it is there, complete and at rest; looked at again when it has been read. */
import { ActivityFailure, ApplicationFailure, isCancellation, patched } from '@temporalio/workflow';
import type { CloneOrigin, OriginAwaited, SourceContent } from '../activities/types/clone.js';
import type { ClaimRef, FailureType } from '../activities/types.js';
import { control, measuring } from './activity-options.js';
import { confirmHeld } from './claim-watch.js';
import type { Lifecycle } from './volume-lifecycle.js';
import { whySilent } from './placement.js';
import { refOf } from './run-state.js';

/** Reason of a claim that is not there. */
const GONE = 'CloneWithoutSource';

/** Mark of the histories in which a volume that is kept for the clone's claim goes before its source. */
const TAKES_KEPT = 'takes a kept volume instead of its source';

/**
 * Waits until the source can be cloned, and says why it cannot yet; `before` is what it was when the clone began, `claim` what is held
 * meanwhile. @throws `SourceNotFound` where it was there before, and is gone, `ClaimLost`
 */
export async function awaitOrigin(
  volume: Lifecycle,
  before?: CloneOrigin,
  claim?: ClaimRef,
): Promise<CloneOrigin> {
  volume.step('looking at the source');
  let waiting = { reason: GONE, message: '', counts: false };
  const wait = {
    get reason() {
      return waiting.reason;
    },
    get counts() {
      return waiting.counts;
    },
    message: () => waiting.message,
    // nothing moves meanwhile
    ...(before ? { phase: 'CloneScheduled' as const } : {}),
  };
  return await volume.until(wait, async () => {
    const found = await look(volume, before);
    if (!found.waiting) return found;
    // a run that begins now takes it as it is; a worker of before waits on
    if (!before && found.kept && patched(TAKES_KEPT)) await volume.leave(true);
    if (before && found.waiting.reason === GONE) throw gone(before, 'was deleted before it was cloned');
    // what was complete once may never be again
    waiting = before ? { ...found.waiting, counts: true } : found.waiting;
    await confirmHeld(claim);
    return undefined;
  });
}

/** As {@link awaitOrigin}, for a source that was found before. @throws `SourceNotFound` where it is another one now */
export async function awaitSameOrigin(
  volume: Lifecycle,
  before: CloneOrigin,
  claim: ClaimRef,
): Promise<CloneOrigin> {
  const origin = await awaitOrigin(volume, before, claim);
  if (isSame(origin, before)) return origin;
  throw gone(before, 'was deleted, and another one has its name');
}

/**
 * When all is read: the source must be what it was. False where somebody may have written to it meanwhile.
 * @throws `SourceNotFound` where it was deleted
 */
export async function isUntouched(volume: Lifecycle, origin: CloneOrigin): Promise<boolean> {
  volume.step('looking at the source again');
  let message = '';
  const wait = {
    reason: 'NodeUnavailable',
    counts: true,
    phase: 'CloneScheduled',
    message: () => message,
  } as const;
  return await volume.until(wait, async () => {
    const now = await look(volume, origin);
    if (!now.waiting) {
      if (isSame(now, origin)) return true;
      throw gone(origin, 'was deleted while it was cloned, and another one has its name');
    }
    ({ message } = now.waiting);
    if (now.waiting.reason === GONE) throw gone(origin, `was deleted while it was cloned: ${message}`);
    // whether anybody wrote to it is known when its node is back
    return now.waiting.reason === wait.reason ? undefined : false;
  });
}

/** What was named when the clone began is cloned, whatever a DataSource names meanwhile. */
async function look(volume: Lifecycle, before?: CloneOrigin): Promise<CloneOrigin | OriginAwaited> {
  const dataVolume = refOf(volume.facts);
  if (!before) return await control.findCloneOrigin({ dataVolume });
  const { namespace, name } = before.claim;
  return await control.findCloneOrigin({ dataVolume, found: { namespace, name } });
}

function isSame(one: CloneOrigin, other: CloneOrigin): boolean {
  return one.claim.uid === other.claim.uid && one.volume.volumeUid === other.volume.volumeUid;
}

function gone({ claim: { namespace, name } }: CloneOrigin, how: string): ApplicationFailure {
  return ApplicationFailure.create({
    type: 'SourceNotFound' satisfies FailureType,
    message: `source claim ${namespace}/${name} ${how}`,
    nonRetryable: true,
  });
}

/** Looks at what the source holds; while its node does not answer it waits, and says so. */
export async function measure(
  volume: Lifecycle,
  { volume: source, contentType }: CloneOrigin,
): Promise<SourceContent> {
  volume.step(`measuring the source on node ${source.node}`);
  let message = '';
  const wait = { reason: 'NodeUnavailable', counts: true, message: () => message };
  return await volume.until(wait, async () => {
    try {
      return await measuring(source.node).measureOrigin({ volume: source, contentType });
    } catch (error) {
      if (isCancellation(error) || isPermanent(error)) throw error;
      message = `source on node ${source.node}: ${whySilent(source.node, error)}`;
      return undefined;
    }
  });
}

function isPermanent(error: unknown): boolean {
  const cause = error instanceof ActivityFailure ? error.cause : undefined;
  return cause instanceof ApplicationFailure && cause.nonRetryable === true;
}
