import { CancellationScope, ContinueAsNew, isCancellation } from '@temporalio/workflow';
import type { ClaimRef, DataVolumeEvent, ReservedDirectory } from '../activities/types.js';
import type {
  ClaimVerdict,
  ProvisionInput,
  ProvisionResult,
  VolumePlan,
} from '../activities/types/provision.js';
import { control } from './activity-options.js';
import { continues, requireClaim } from './arguments.js';
import { failureOf, undoAll } from './ending.js';
import { NEXT_CHOICE, reserveOnSomeNode, type Placing } from './placement.js';
import { isClaimLost, offer } from './offer.js';
import { unmark } from './publication.js';
import { openRun, stepsOf, undoOnce } from './run.js';
import type { Run } from './run-state.js';
import { until } from './waiting.js';

/**
 * Gives a plain claim of a hostpath class its volume: an empty directory on the node that its user or the scheduler names, else on
 * the live node with the most room. While there is no room, no pool or no node it waits as long as the claim does, and says why on
 * the claim. A claim that goes takes everything with it.
 * @throws {@link FailureType} `InvalidArgument`
 */
export async function provisionVolume(input: ProvisionInput): Promise<ProvisionResult> {
  const claim = requireClaim(input);
  const begun = { phase: 'Pending', step: 'starting', conditions: [] } as const;
  const run = openRun({ ...claim, ...begun }, continues() ? input.progressAt : undefined);
  const volume = createProvisioning(claim, run);
  try {
    return await provision(volume, claim);
  } catch (error) {
    if (error instanceof ContinueAsNew) throw error;
    await CancellationScope.nonCancellable(() => undoAll(run, volume));
    // nobody waits for this volume any more
    if (!isClaimLost(error)) {
      await CancellationScope.nonCancellable(() => sayFailed(volume.event, error));
      throw error;
    }
    return { provisioned: false, reason: error.cause.message };
  }
}

/** A plain claim as its workflow sees it. */
interface Provisioning extends Placing {
  /** From here on nothing is undone: the volume is the user's. */
  commit(): void;
}

async function provision(volume: Provisioning, claim: ClaimRef): Promise<ProvisionResult> {
  const verdict = await plan(volume, claim);
  const reason = verdict.refused ?? verdict.done;
  if (!verdict.plan) return { provisioned: false, ...(reason === undefined ? {} : { reason }) };
  const directory = await reserveOnSomeNode(volume, { claim, target: verdict.plan, patience: '15s' });
  volume.step('publishing the volume');
  return await publish(volume, claim, { target: verdict.plan, directory });
}

/** Waits for a pool or class that an administrator has to make first. */
async function plan(volume: Provisioning, claim: ClaimRef): Promise<ClaimVerdict> {
  volume.step('planning the volume');
  let missing = '';
  const wait = { reason: 'StorageClassNotFound', counts: false, message: () => missing };
  return await volume.until(wait, async () => {
    const verdict = await control.planVolume({ claim });
    missing = verdict.missing ?? '';
    return verdict.missing === undefined ? verdict : undefined;
  });
}

/** Not to be torn: once the claim is Bound the volume is the user's and nothing is undone any more. */
async function publish(
  volume: Provisioning,
  claim: ClaimRef,
  { target, directory }: { readonly target: VolumePlan; readonly directory: ReservedDirectory },
): Promise<ProvisionResult> {
  const { volume: name } = await offer(volume, { dataVolume: claim, claim, target, directory });
  volume.commit();
  return await CancellationScope.nonCancellable(async () => {
    const message = `Successfully provisioned volume ${name}`;
    await volume.event({ type: 'Normal', reason: 'ProvisioningSucceeded', message });
    await unmark(volume, directory);
    volume.step('finished');
    return { provisioned: true, volume: name, node: directory.node };
  });
}

function createProvisioning(claim: ClaimRef, run: Run): Provisioning {
  const event = (said: DataVolumeEvent): Promise<void> => control.recordClaimEvent({ claim, event: said });
  // A claim may stay Pending for as long as its user likes.
  const facts = { ...claim, deadlineMs: Infinity };
  return {
    ...stepsOf(run),
    facts,
    event,
    onFailure: undoOnce(run),
    until: (wait, look) =>
      until({ facts, run, enter: (_, waiting) => sayWaiting(event, waiting) }, wait, look),
  };
}

/** A run that was cancelled has not failed: another one begins as long as the claim asks. */
async function sayFailed(event: Provisioning['event'], error: unknown): Promise<void> {
  if (isCancellation(error)) return;
  const message = `failed to provision volume: ${failureOf(error).message}`;
  await event({ type: 'Warning', reason: 'ProvisioningFailed', message });
}

/** Why the choice before was given back has been said already. */
async function sayWaiting(
  event: (said: DataVolumeEvent) => Promise<void>,
  waiting: { message: string } | undefined,
): Promise<void> {
  if (waiting === undefined || waiting.message.startsWith(NEXT_CHOICE)) return;
  const message = `failed to provision volume: ${waiting.message}`;
  await event({ type: 'Warning', reason: 'ProvisioningFailed', message });
}
