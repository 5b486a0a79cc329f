import { isCancellation, patched } from '@temporalio/workflow';
import type { ClaimRef, FillTarget } from '../activities/types.js';
import { control } from './activity-options.js';
import { isClaimLost } from './offer.js';

/** Mark of the histories in which a wait asks for its claim. */
const ASKS_FOR_CLAIM = 'asks for its claim while it waits';

/**
 * A look for {@link Lifecycle.within}: rejects where the claim that is being filled is gone or Bound too early, or its static volume,
 * where `target` tells it, is another one, whatever else may be wrong. @throws `ClaimLost`
 */
export function whileClaimIsThere(claim: ClaimRef, target?: FillTarget): () => Promise<void> {
  const filled = target && 'volume' in target ? { volume: target } : {};
  return async () => {
    try {
      await control.confirmClaim({ claim, ...filled });
    } catch (error) {
      if (isClaimLost(error) || isCancellation(error)) throw error;
    }
  };
}

/**
 * For a look of {@link Lifecycle.until} that found nothing, or of {@link Lifecycle.within}, while a claim is held: what waits for
 * something else ends when its claim is gone, not when that comes. @throws `ClaimLost`
 */
export async function confirmHeld(claim: ClaimRef | undefined): Promise<void> {
  if (claim && patched(ASKS_FOR_CLAIM)) await whileClaimIsThere(claim)();
}
