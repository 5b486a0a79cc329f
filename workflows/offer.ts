/** The last step of a volume's making: it is offered to its claim, and from then on nothing may be undone. */
import { ActivityFailure, ApplicationFailure, CancellationScope, log } from '@temporalio/workflow';
import type { ControlActivities } from '../activities/interfaces.js';
import type { FailureType, PublishedVolume } from '../activities/types.js';
import { control, publishing } from './activity-options.js';
import { deferCleanup } from './ending.js';
import type { Lifecycle } from './volume-lifecycle.js';

/** What is published. */
export type Publication = Parameters<ControlActivities['publishVolume']>[0];

/** A volume in the making. */
type Making = Pick<Lifecycle, 'commit' | 'event' | 'onFailure'>;

/**
 * Offers a volume to its claim. Kubernetes may bind the claim while the step is cancelled, runs out of time or is refused its last change: then
 * the volume is its user's, the step is done once more to its end, and nothing is undone. Nor is anything undone where nobody can say
 * whether the claim is Bound: that is left to the sweeper.
 */
export async function offer(
  volume: Making,
  publication: Publication,
  around: (work: () => Promise<PublishedVolume>) => Promise<PublishedVolume> = (work) => work(),
): Promise<PublishedVolume> {
  let withdrawn = false;
  const withdraw = async (): Promise<boolean> => {
    if (withdrawn) return false;
    withdrawn = true;
    return await isKept(volume, publication);
  };
  volume.onFailure('delete the unpublished volume', withdraw);
  const work = (): Promise<PublishedVolume> => publishing.publishVolume(publication);
  try {
    return await around(work);
  } catch (error) {
    // a claim that was deleted needs no volume any more; what becomes of one that had it already is said by its policy
    if (isClaimLost(error)) throw error;
    if (!(await CancellationScope.nonCancellable(withdraw))) throw error;
    log.info('the claim is Bound: publishing to the end', { error });
    return await CancellationScope.nonCancellable(work);
  }
}

/** Deletes what was not published. Data under a claim that is Bound, or may be, is not removed by any step that is still to be undone. */
async function isKept(volume: Making, { dataVolume, claim, directory }: Publication): Promise<boolean> {
  try {
    const filled = 'volume' in directory ? { volume: directory } : {};
    const answer = await control.deleteUnpublishedVolume({ dataVolume, claim, ...filled });
    if (answer?.kept) volume.commit();
    return answer?.kept ?? false;
  } catch (error) {
    volume.commit();
    log.error('clean-up failed, left to the sweeper', { what: 'delete the unpublished volume', error });
    const reason = error instanceof ActivityFailure ? (error.cause ?? error).message : String(error);
    await deferCleanup(volume, `could not delete the unpublished volume: ${reason}; the sweeper will`);
    return false;
  }
}

/** The claim was deleted or got another volume. */
export function isClaimLost(error: unknown): error is ActivityFailure & { cause: ApplicationFailure } {
  const cause = error instanceof ActivityFailure ? error.cause : undefined;
  return cause instanceof ApplicationFailure && cause.type === ('ClaimLost' satisfies FailureType);
}
