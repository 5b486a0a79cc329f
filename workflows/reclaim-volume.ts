import { control, onNode } from './activity-options.js';

/** What came of a released volume. */
export interface ReclaimResult {
  /** The data and the PersistentVolume are gone. */
  readonly reclaimed: boolean;
}

/**
 * Removes what a released PersistentVolume of policy `Delete` leaves: first the data on its node, then the object, so that an
 * object which is gone never stands for data which is not. A node that is away is waited for.
 */
export async function reclaimVolume(input: { name: string; uid: string }): Promise<ReclaimResult> {
  const { volume } = await control.observeReleasedVolume(input);
  if (!volume) return { reclaimed: false };
  await onNode(volume.node).removeVolumeData({ volume });
  await control.deleteVolume(input);
  return { reclaimed: true };
}
