import type { NodeActivities } from '../interfaces.js';
import { verifyImage } from './verify.js';
import { verifyReserved } from './verify-volume.js';
import type { VolumeContext } from './volume-state.js';

/**
 * Proves that what a lifecycle filled is the finished disk, whatever kind of volume it is.
 * @throws {@link FailureType} `ImageInvalid`
 */
export async function verifyFilled(
  { directory, ...rest }: Parameters<NodeActivities['verifyImage']>[0],
  context: Omit<VolumeContext, 'deviceDirectory'>,
): Promise<void> {
  if ('volume' in directory) await verifyReserved({ ...rest, volume: directory }, context);
  else await verifyImage({ ...rest, directory }, context);
}
