import type { FileHandle } from 'node:fs/promises';
import { transientFailure } from '../failures.js';
import { readMarker } from '../node/marker.js';
import { openPool, openVolumeDirectory } from '../node/pool.js';
import type { ScratchSpace } from '../types/scratch.js';
import type { ScratchRoom } from './scratch.js';

/** A scratch directory held open for one attempt. */
export interface OpenScratch extends AsyncDisposable {
  readonly directory: FileHandle;
  readonly room: ScratchRoom;
}

/**
 * Opens scratch space; without any there is nothing to open. What is kept there has no name and goes with the attempt, so two of
 * them do not meet; the target's lock lets only one work anyway.
 * @throws {@link FailureType} retried: `ScratchUnavailable` when the directory is not there or not the one that was reserved
 */
export async function openScratch(scratch: ScratchSpace | undefined): Promise<OpenScratch | undefined> {
  if (!scratch) return undefined;
  const { directory: reserved, claim, bytes } = scratch;
  await using pool = await openPool(reserved.pool, { node: reserved.node });
  const marker = await readMarker(pool, reserved.dataVolume.uid);
  const directory =
    marker?.directory === reserved.directory
      ? await openVolumeDirectory(pool, reserved.directory).catch(() => undefined)
      : undefined;
  if (!directory)
    throw transientFailure(
      'ScratchUnavailable',
      `scratch directory ${reserved.pool}/${reserved.directory} on node ${reserved.node} is not there any more`,
    );
  return {
    directory,
    room: { bytes, claimName: `${claim.namespace}/${claim.name}` },
    [Symbol.asyncDispose]: () => directory.close(),
  };
}
