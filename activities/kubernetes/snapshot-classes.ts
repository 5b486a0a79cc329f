import { callIfFound } from './client.js';
import type { Kubernetes } from './client.js';
import type { SnapshotClass } from './storage-profile.js';

/** Every VolumeSnapshotClass; none where the cluster does not serve them. */
export async function listSnapshotClasses({ custom }: Kubernetes): Promise<readonly SnapshotClass[]> {
  const answer: unknown = await callIfFound(
    'listing VolumeSnapshotClasses',
    custom.listClusterCustomObject({
      group: 'snapshot.storage.k8s.io',
      version: 'v1',
      plural: 'volumesnapshotclasses',
    }) as Promise<object>,
  );
  return (answer as { items: SnapshotClass[] } | undefined)?.items ?? [];
}
