import type { ClaimRef, FillTarget } from '../activities/types.js';
import { control } from './activity-options.js';
import { isClaimLost } from './offer.js';

/**
 * A look for {@link Lifecycle.within}: rejects where the claim that is being filled is gone or Bound too early, or its static volume is
 * another one, whatever else may be wrong. @throws `ClaimLost`
 */
export function whileClaimIsThere(claim: ClaimRef, target: FillTarget): () => Promise<void> {
  const filled = 'volume' in target ? { volume: target } : {};
  return async () => {
    try {
      await control.confirmClaim({ claim, ...filled });
    } catch (error) {
      if (isClaimLost(error)) throw error;
    }
  };
}
