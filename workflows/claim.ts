/** The user's claim in the life of a lifecycle: planned, adopted or made, undone if the run fails, and the wait for its consumer. */
import type { ClaimRef, ImageFacts, Phase, ReservedVolume, TargetPlan } from '../activities/types.js';
import { claiming, control } from './activity-options.js';
import type { Lifecycle } from './volume-lifecycle.js';
import { isExceededQuota } from './quota.js';
import { PLANNING, refOf } from './run-state.js';

/** Phases in which a run may continue as new. */
const WAITED_IN: readonly Phase[] = [
  'WaitForFirstConsumer',
  'ImportScheduled',
  'CloneScheduled',
  'UploadScheduled',
  'UploadReady',
];

/** Begins a lifecycle: whatever claim it makes goes with its failure, and its phase is `Pending`. */
export async function begin(volume: Lifecycle): Promise<void> {
  undoClaim(volume);
  // A run that continues another one's wait finds its phase, and keeps it.
  if (!WAITED_IN.includes(volume.facts.phase)) await volume.enter('Pending');
}

/** Registered before the claim exists, since an attempt may make it and die before it can say so; found by the DataVolume's uid. */
function undoClaim(volume: Lifecycle): void {
  const dataVolume = refOf(volume.facts);
  const { namespace, name } = dataVolume;
  volume.onFailure(`delete claim ${namespace}/${name}`, () =>
    control.deleteClaim({ dataVolume, claim: { namespace, name, uid: '' } }),
  );
}

/** Decides what the claim will be; one that is to be there already, or is going, is waited for. */
export async function planTarget(volume: Lifecycle): Promise<TargetPlan> {
  const dataVolume = refOf(volume.facts);
  return await planOnce(volume, () => untilThere(volume, () => control.planTarget({ dataVolume })));
}

/**
 * What a claim was made by counts for all runs that go on for each other: while one waits for its consumer, sizes, classes and
 * defaults of the cluster may change. The claim itself is judged by each.
 */
export async function planOnce(volume: Lifecycle, plan: () => Promise<TargetPlan>): Promise<TargetPlan> {
  volume.step(PLANNING);
  const { target } = volume.handedOn;
  if (!target) return await plan();
  const dataVolume = refOf(volume.facts);
  return { ...target, ...(await untilThere(volume, () => control.judgeTarget({ dataVolume }))) };
}

/** Waits for a claim that somebody else is to make, and until one is gone that is being removed. */
export async function untilThere<T extends Pick<TargetPlan, 'claim' | 'waiting'>>(
  volume: Lifecycle,
  look: () => Promise<T>,
): Promise<T> {
  let going: TargetPlan['waiting'];
  const wait = {
    get reason() {
      return going?.reason ?? 'PrePopulated';
    },
    get counts() {
      return going !== undefined;
    },
    message: () =>
      going?.message ??
      `claim ${volume.facts.name} does not exist yet (cdi.kubevirt.io/storage.prePopulated)`,
  };
  return await volume.until(wait, async () => {
    const target = await look();
    going = target.waiting;
    return target.claim === 'wait' ? undefined : target;
  });
}

/** What came of a claim that held the data already. */
export interface Adopted {
  readonly claim: { readonly namespace: string; readonly name: string };
  /** Name of the PersistentVolume; absent where the claim is not bound yet. */
  readonly volume?: string;
}

/** Takes over a claim that holds the data already; nothing is filled. */
export async function adopt(volume: Lifecycle, target: Pick<TargetPlan, 'adoptUid'>): Promise<Adopted> {
  const { namespace, name } = volume.facts;
  const claim = await control.adoptClaim({
    dataVolume: refOf(volume.facts),
    claimUid: target.adoptUid ?? '',
  });
  volume.note({ claim });
  await volume.enter('Succeeded', { bound: claim.volume !== undefined });
  return { claim: { namespace, name }, ...(claim.volume ? { volume: claim.volume } : {}) };
}

/** What a claim gets besides what its DataVolume says. */
export interface ClaimExtras {
  /** Labels of the image. */
  readonly labels?: ImageFacts['labels'];
  /** The static volume that is filled for it. */
  readonly reserved: ReservedVolume | undefined;
}

/** Creates the claim; while a quota is in the way it waits, and says so. */
export async function ensureClaim(
  volume: Lifecycle,
  target: TargetPlan,
  { labels, reserved }: ClaimExtras,
): Promise<ClaimRef> {
  volume.step('creating the claim');
  const dataVolume = refOf(volume.facts);
  let refusal = '';
  const wait = { reason: 'ErrExceededQuota', counts: true, message: () => refusal };
  const claim = await volume.until(wait, async () => {
    try {
      return await claiming.ensureClaim({
        dataVolume,
        target,
        ...(labels ? { labels } : {}),
        ...(reserved ? { reserved } : {}),
      });
    } catch (error) {
      if (!isExceededQuota(error)) throw error;
      refusal = error.cause?.message ?? error.message;
      return undefined;
    }
  });
  volume.note({ claim });
  volume.handedOn.target = target;
  return claim;
}

/** With `HonorWaitForFirstConsumer` the scheduler names the node, when a pod first uses the claim. */
export async function awaitConsumer(volume: Lifecycle, claim: ClaimRef, target: TargetPlan): Promise<void> {
  if (!target.waitForConsumer) return;
  volume.step('waiting for the first consumer of the claim');
  const wait = {
    reason: 'WaitForFirstConsumer',
    phase: 'WaitForFirstConsumer',
    counts: false,
    message: () =>
      `a pod that uses claim ${claim.name} (or annotation cdi.kubevirt.io/storage.bind.immediate.requested)`,
  } as const;
  await volume.until(wait, async () => {
    const { chosenBy, immediate } = await control.listCandidates({ claim, target });
    return chosenBy === 'any' && !immediate ? undefined : chosenBy;
  });
}
