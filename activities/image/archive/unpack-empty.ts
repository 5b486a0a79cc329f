import { emptyTree } from '../../node/remove-tree.js';
import type { Place } from '../../node/place.js';

/** What `mke2fs` puts into the root of a file system, for `fsck`. */
export const LOST_AND_FOUND = 'lost+found';

/**
 * Removes everything in a volume but its file system's own `lost+found`, whatever an earlier attempt or a tenant made there.
 * @throws {@link FailureType} `ResourceExists` for something mounted in it
 */
export async function emptyVolume(
  target: Place,
  options: { readonly device: bigint; readonly signal?: AbortSignal },
): Promise<void> {
  await emptyTree(target, { ...options, keep: LOST_AND_FOUND });
}
