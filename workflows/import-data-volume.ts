import { CancellationScope } from '@temporalio/workflow';
import type {
  ClaimRef,
  FillTarget,
  ImageFacts,
  ImportResult,
  LifecycleInput,
  Missing,
  Phase,
  ReservedVolume,
  TargetPlan,
  TransferResult,
} from '../activities/types.js';
import { claiming, cleaningUp, control, inspecting, onNode } from './activity-options.js';
import { deferCleanup } from './ending.js';
import { runLifecycle, type Lifecycle } from './lifecycle.js';
import { reserveOnSomeNode } from './placement.js';
import { publish as publishTo } from './publication.js';
import { isExceededQuota } from './quota.js';
import { refOf } from './run-state.js';
import { obtainScratch, planScratch } from './scratch.js';
import { prepareStaticVolume, reserveStaticVolume } from './static-volume.js';
import { transfer, type Filling } from './transfer.js';

/**
 * Fills a volume from an image and offers it to the claim only when it is complete, verified and synced. Phases: CDI's import
 * phases. Nothing is allocated before the source is known to be readable and to fit.
 * @throws every {@link FailureType} of an import, as the `type` of an `ApplicationFailure`
 */
export async function importDataVolume(input: LifecycleInput): Promise<ImportResult | undefined> {
  return await runLifecycle(input, async (volume) => {
    undoClaim(volume);
    // A run that continues another one's wait finds its phase, and keeps it.
    if (!WAITED_IN.includes(volume.facts.phase)) await volume.enter('Pending');
    const target = await planTarget(volume);
    if (target.claim === 'adopt') return await adopt(volume, target);
    const image = await inspect(volume, target);
    volume.note({ image });
    const plan = await planScratch(volume, { target, image });
    const reserved = await reserveStaticVolume(volume, target);
    volume.step('creating the claim');
    const claim = await ensureClaim(volume, target, { labels: image.labels, reserved });
    await awaitConsumer(volume, claim, target);
    await volume.enter('ImportScheduled');
    const directory = reserved
      ? await prepareStaticVolume(volume, { reserved, claim, target })
      : await reserveOnSomeNode(volume, { claim, target, scratch: plan });
    volume.note({ node: directory.node });
    const scratch = plan && (await obtainScratch(volume, { claim, directory, plan }));
    await copyCredentials(volume);
    await volume.enter('ImportInProgress');
    const transferred = await transfer(volume, { claim, target, image, directory }, scratch);
    await verify(volume, directory, transferred);
    const published = await publish(volume, { claim, target, directory, transferred });
    volume.step('finished');
    return resultOf({ claim, node: directory.node, ...published }, transferred);
  });
}

/** Phases in which a run may continue as new. */
const WAITED_IN: readonly Phase[] = ['WaitForFirstConsumer', 'ImportScheduled'];

/** Registered before the claim exists, since an attempt may make it and die before it can say so; found by the DataVolume's uid. */
function undoClaim(volume: Lifecycle): void {
  const dataVolume = refOf(volume.facts);
  const { namespace, name } = dataVolume;
  volume.onFailure(`delete claim ${namespace}/${name}`, () =>
    control.deleteClaim({ dataVolume, claim: { namespace, name, uid: '' } }),
  );
}

function resultOf(
  { claim, volume, node }: { claim: ClaimRef; volume: string; node: string },
  { virtualSize, bytesTransferred, bytesWritten, checksum }: TransferResult,
): ImportResult {
  const { namespace, name } = claim;
  const figures = {
    virtualSize,
    bytesTransferred,
    bytesWritten,
    ...(checksum === undefined ? {} : { checksum }),
  };
  return { claim: { namespace, name }, volume, node, ...figures };
}

async function planTarget(volume: Lifecycle): Promise<TargetPlan> {
  volume.step('planning the target');
  const wait = {
    reason: 'PrePopulated',
    counts: false,
    message: () => `claim ${volume.facts.name} does not exist yet (cdi.kubevirt.io/storage.prePopulated)`,
  };
  return await volume.until(wait, async () => {
    const target = await control.planTarget({ dataVolume: refOf(volume.facts) });
    return target.claim === 'wait' ? undefined : target;
  });
}

async function adopt(volume: Lifecycle, target: TargetPlan): Promise<ImportResult> {
  const { namespace, name } = volume.facts;
  const claim = await control.adoptClaim({
    dataVolume: refOf(volume.facts),
    claimUid: target.adoptUid ?? '',
  });
  volume.note({ claim });
  await volume.enter('Succeeded');
  return { claim: { namespace, name }, ...(claim.volume ? { volume: claim.volume } : {}) };
}

async function inspect(volume: Lifecycle, target: TargetPlan): Promise<ImageFacts> {
  volume.step('inspecting the source');
  return await untilNamed(volume, () =>
    inspecting.inspectSource({
      dataVolume: refOf(volume.facts),
      target,
      contentType: volume.facts.contentType,
    }),
  );
}

async function copyCredentials(volume: Lifecycle): Promise<void> {
  const dataVolume = refOf(volume.facts);
  volume.onFailure(`delete Secret transfer-${dataVolume.uid}`, () =>
    control.deleteCredentials({ dataVolume }),
  );
  await untilNamed(volume, () => control.copyCredentials({ dataVolume }));
}

/** Waits until the Secrets and ConfigMaps that the DataVolume names exist. */
async function untilNamed<T extends object>(
  volume: Lifecycle,
  look: () => Promise<T | Missing>,
): Promise<Exclude<T, Missing>> {
  let missing: readonly string[] = [];
  const wait = { reason: 'SourceNotReady', counts: true, message: () => `waiting for ${missing.join(', ')}` };
  return await volume.until(wait, async () => {
    const found = await look();
    if (!isMissing(found)) return found as Exclude<T, Missing>;
    missing = found.missing;
    return undefined;
  });
}

function isMissing(found: object): found is Missing {
  return 'missing' in found && Array.isArray(found.missing) && found.missing.length > 0;
}

interface ClaimExtras {
  readonly labels: ImageFacts['labels'];
  readonly reserved: ReservedVolume | undefined;
}

async function ensureClaim(
  volume: Lifecycle,
  target: TargetPlan,
  { labels, reserved }: ClaimExtras,
): Promise<ClaimRef> {
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
  return claim;
}

/** With `HonorWaitForFirstConsumer` the scheduler names the node, when a pod first uses the claim. */
async function awaitConsumer(volume: Lifecycle, claim: ClaimRef, target: TargetPlan): Promise<void> {
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
    const { chosenBy } = await control.listCandidates({ claim, target });
    return chosenBy === 'any' ? undefined : chosenBy;
  });
}

async function verify(volume: Lifecycle, directory: FillTarget, transferred: TransferResult): Promise<void> {
  volume.step('verifying the disk');
  const { contentType } = volume.facts;
  const work = (): Promise<void> =>
    onNode(directory.node).verifyImage({ directory, transferred, contentType });
  await volume.within(`node ${directory.node} to verify the disk`, work, nothingMeasured);
}

/** Work that either ends within the deadline or does not. */
const nothingMeasured = async (): Promise<number> => 0;

/** Not to be torn: once the claim is Bound the disk is the user's and nothing is undone any more. */
async function publish(
  volume: Lifecycle,
  { claim, target, directory, transferred }: Omit<Filling, 'image'> & { transferred: TransferResult },
): Promise<{ volume: string }> {
  volume.step('publishing the volume');
  const dataVolume = refOf(volume.facts);
  const waiting = `claim ${claim.namespace}/${claim.name} to be Bound`;
  const published = await publishTo(volume, { dataVolume, claim, target, directory }, (work) =>
    volume.within(waiting, work, nothingMeasured),
  );
  volume.commit();
  return await CancellationScope.nonCancellable(async () => {
    await control.deleteCredentials({ dataVolume });
    await volume.enter('Succeeded', { restartCount: (transferred.attempts ?? 1) - 1 });
    await unmark(volume, directory);
    return published;
  });
}

/** Removes the directory's marker. Where the node has gone, being Bound protects the disk from the sweeper as well. */
async function unmark(volume: Lifecycle, directory: FillTarget): Promise<void> {
  try {
    await cleaningUp(directory.node).publishDirectory({ directory });
  } catch {
    await deferCleanup(volume, `node ${directory.node} does not answer: marker stays`);
  }
}
