/** Marks that stayed on what a user has: their node was silent, or their run was ended, when they were to go. */
import { isCancellation, log } from '@temporalio/workflow';
import type { UnpublishedItem } from '../activities/types.js';
import { sweeping, sweepingOn } from './activity-options.js';

/** Takes the mark from what is a user's; what fails is left to the next sweep. */
export async function takeMark(item: UnpublishedItem): Promise<void> {
  const { kind, where, pool = '', name: directory, dataVolume } = item;
  try {
    if (kind === 'Directory')
      await sweepingOn(where).publishDirectory({ directory: { pool, directory, dataVolume } });
    else await sweeping.removeUnpublished({ item });
  } catch (error) {
    if (isCancellation(error)) throw error;
    log.warn('left to the next sweep', { kind, where, name: directory, error });
  }
}
