/** A volume that is kept for the target of a clone, and came while its source was waited for (`kept-volumes.ts`). */
import type { DataVolumeRef } from '../../types.js';
import { callIfFound, listAll } from '../client.js';
import type { Kubernetes } from '../client.js';
import { findDataVolume } from '../data-volumes.js';
import { asksForKept, isKeptForLater } from '../kept-volumes.js';

/** Whether such a volume is there. Where the claim is there already, the volume is not for that. */
export async function isTargetKept(kubernetes: Kubernetes, ref: DataVolumeRef): Promise<boolean> {
  const dataVolume = await findDataVolume(kubernetes, ref);
  if (dataVolume?.metadata.uid !== ref.uid || !asksForKept(dataVolume)) return false;
  const { core } = kubernetes;
  const volumes = await listAll('listing volumes', (page) => core.listPersistentVolume(page));
  if (!isKeptForLater(dataVolume, volumes)) return false;
  const { namespace, name } = ref;
  const claim = await callIfFound(
    `reading claim ${namespace}/${name}`,
    core.readNamespacedPersistentVolumeClaim({ namespace, name }),
  );
  return claim === undefined;
}
