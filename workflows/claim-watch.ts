import type { ClaimRef } from '../activities/types.js';
import { control } from './activity-options.js';
import { isClaimLost } from './offer.js';

/** A look for {@link Lifecycle.within}: rejects where the claim that is being filled is gone, whatever else may be wrong. @throws `ClaimLost` */
export function whileClaimIsThere(claim: ClaimRef): () => Promise<void> {
  return async () => {
    try {
      await control.confirmClaim({ claim });
    } catch (error) {
      if (isClaimLost(error)) throw error;
    }
  };
}
