import { isCancellation, log } from '@temporalio/workflow';
import type { UnpublishedItem } from '../activities/types.js';
import { sweeping } from './activity-options.js';
import { requireArgument } from './arguments.js';
import { failureOf } from './ending.js';
import { recordMetric } from './metrics.js';
import { returnVolume } from './static-volume.js';

const REFUSED = { type: 'InvalidArgument', give: 'nothing: it is the sweeper that starts this' } as const;

/** What came of a volume that was to be given back. */
export interface ReturnResult {
  readonly returned: boolean;
  /** Why not, where a few tries were in vain; the next sweep starts another run. */
  readonly why?: string;
}

/**
 * Empties a static volume that a terminated run had reserved, and gives it back. A run of its own, since a device that has to write its
 * zeros takes hours, in which the sweeper has others to sweep.
 * @throws {@link FailureType} `InvalidArgument`
 */
export async function returnReservedVolume(input: UnpublishedItem): Promise<ReturnResult> {
  requireArgument(input, { ...REFUSED, members: { name: 'name', objectUid: 'name', workflowId: 'text?' } });
  requireArgument(input.dataVolume, {
    ...REFUSED,
    within: 'dataVolume',
    members: { namespace: 'name', name: 'name', uid: 'name' },
  });
  try {
    // judged anew: this may have waited for a worker
    const [still] = await sweeping.judgeUnpublished({ items: [input] });
    if (!still?.reserved || still.published) return { returned: false };
    const returned = await returnVolume(still.dataVolume, sweeping, still.createdAt);
    if (returned) {
      countFound(still);
      recordMetric('dvflow_leaked_objects_removed_total', 1, { kind: still.kind });
    }
    return { returned };
  } catch (error) {
    if (isCancellation(error)) throw error;
    log.warn('left to the next sweep', { volume: input.name, error });
    countFound(input);
    return { returned: false, why: failureOf(error).message };
  }
}

/** At the end only: what is found and not removed is told to people as stuck, and emptying a device may take hours. */
function countFound({ kind }: UnpublishedItem): void {
  recordMetric('dvflow_leaked_objects_found_total', 1, { kind });
}
