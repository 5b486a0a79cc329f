/** The end of a lifecycle that succeeds: the disk is proved, then offered to the claim. */
import { CancellationScope } from '@temporalio/workflow';
import type {
  ClaimRef,
  FillTarget,
  PublishedVolume,
  TargetPlan,
  TransferResult,
} from '../activities/types.js';
import { cleaningUp, finishing } from './activity-options.js';
import { deferCleanup } from './ending.js';
import type { Lifecycle } from './volume-lifecycle.js';
import { offer } from './offer.js';
import { refOf } from './run-state.js';

/** A disk that is complete, and the claim that it is for. */
export interface Filled {
  readonly claim: ClaimRef;
  readonly target: TargetPlan;
  readonly directory: FillTarget;
  readonly transferred: TransferResult;
  /** What must be gone before the DataVolume is said to have succeeded; nothing that it removes belongs to the disk. */
  readonly tidy?: () => Promise<void>;
}

/** Proves on the node that the disk is the one that was finished. */
export async function verify(
  volume: Lifecycle,
  { directory, transferred }: Pick<Filled, 'directory' | 'transferred'>,
): Promise<void> {
  volume.step('verifying the disk');
  const { contentType } = volume.facts;
  const work = (): Promise<void> =>
    finishing(directory.node).verifyImage({ directory, transferred, contentType });
  await volume.within(`node ${directory.node} to verify the disk`, work, nothingMeasured);
}

/** Work that either ends within the deadline or does not. */
const nothingMeasured = async (): Promise<number> => 0;

/** Not to be torn: once the claim is Bound the disk is the user's and nothing is undone any more. */
export async function publish(
  volume: Lifecycle,
  { claim, target, directory, transferred, tidy }: Filled,
): Promise<PublishedVolume> {
  volume.step('publishing the volume');
  const dataVolume = refOf(volume.facts);
  // CDI unpacks an archive as it comes
  const preallocated = target.preallocation && volume.facts.contentType !== 'archive';
  const publication = { dataVolume, claim, target, directory, preallocated };
  const waiting = `claim ${claim.namespace}/${claim.name} to be Bound`;
  const published = await offer(volume, publication, (work) => volume.within(waiting, work, nothingMeasured));
  volume.commit();
  return await CancellationScope.nonCancellable(async () => {
    await tidy?.();
    await volume.enter('Succeeded', { restartCount: (transferred.attempts ?? 1) - 1 });
    await unmark(volume, directory);
    volume.step('finished');
    return published;
  });
}

/** Removes the directory's marker. Where the node has gone, being Bound protects the disk from the sweeper as well. */
export async function unmark(volume: Pick<Lifecycle, 'event'>, directory: FillTarget): Promise<void> {
  try {
    await cleaningUp(directory.node).publishDirectory({ directory });
  } catch {
    await deferCleanup(volume, `node ${directory.node} does not answer: marker stays`);
  }
}
