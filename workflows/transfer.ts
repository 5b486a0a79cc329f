/** The transfer of an image into its target, with scratch space where that shows on the way only. */
import { workflowInfo } from '@temporalio/workflow';
import type { ClaimRef, ImageFacts, FillTarget, TargetPlan, TransferResult } from '../activities/types.js';
import type { ScratchSpace } from '../activities/types/scratch.js';
import { control, transferring } from './activity-options.js';
import { whileClaimIsThere } from './claim-watch.js';
import type { Lifecycle } from './volume-lifecycle.js';
import { obtainScratch, planScratch, releaseScratch, whyScratch } from './scratch.js';

/** What is filled with what. */
export interface Filling {
  readonly claim: ClaimRef;
  readonly target: TargetPlan;
  readonly image: ImageFacts;
  readonly directory: FillTarget;
}

/**
 * Moves the image. One that turns out to need scratch space gets some, and is moved again; either way it is gone in the end.
 * @throws `ScratchSpaceRequired` where no class can serve it
 */
export async function transfer(
  volume: Lifecycle,
  filling: Filling,
  scratch: ScratchSpace | undefined,
): Promise<TransferResult> {
  try {
    return await move(volume, filling, scratch);
  } catch (error) {
    const reason = scratch ? undefined : whyScratch(error);
    const plan = await planScratch(volume, filling, reason);
    if (!plan) throw error;
    const obtained = await obtainScratch(volume, { ...filling, plan });
    await volume.enter('ImportInProgress');
    return await move(volume, filling, obtained);
  }
}

/** What this run's transfer has moved by its last heartbeat: a deadline passes only while that stands still. */
export async function bytesMoved(): Promise<number> {
  const { workflowId } = workflowInfo();
  return (await control.observeTransfer({ workflowId })).bytes;
}

async function move(
  volume: Lifecycle,
  { claim, target, image, directory }: Filling,
  scratch: ScratchSpace | undefined,
): Promise<TransferResult> {
  const run = (): Promise<TransferResult> =>
    transferring(directory.node).transferImage({
      target: directory,
      image,
      contentType: volume.facts.contentType,
      usableBytes: target.usableBytes,
      claim,
      preallocation: target.preallocation,
      ...(scratch ? { scratch } : {}),
    });
  volume.step(`transferring ${image.displayUrl} to node ${directory.node}`);
  const transferred = await volume.within(
    `transfer of ${image.displayUrl}`,
    run,
    bytesMoved,
    whileClaimIsThere(claim, directory),
  );
  if (scratch) await releaseScratch(volume, scratch);
  return transferred;
}
