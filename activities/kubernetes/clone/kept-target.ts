/** A volume that is kept for the target of a clone, and came while its source was waited for (`kept-volumes.ts`). */
import type { DataVolumeRef } from '../../types.js';
import { listVolumes } from '../client.js';
import { findClaimNamed } from '../claim-object.js';
import type { Kubernetes } from '../client.js';
import { findDataVolume } from '../data-volumes.js';
import { asksForKept, isKeptForLater } from '../kept-volumes.js';

/** Whether such a volume is there. Where the claim is there already, the volume is not for that. */
export async function isTargetKept(kubernetes: Kubernetes, ref: DataVolumeRef): Promise<boolean> {
  const dataVolume = await findDataVolume(kubernetes, ref);
  if (dataVolume?.metadata.uid !== ref.uid || !asksForKept(dataVolume)) return false;
  const volumes = await listVolumes(kubernetes);
  if (!isKeptForLater(dataVolume, volumes)) return false;
  return (await findClaimNamed(kubernetes, ref)) === undefined;
}
