import type { KubeConfig, V1PersistentVolumeClaim } from '@kubernetes/client-node';
import type { Logger } from '@temporalio/common';
import type { DataVolumeWatch } from './data-volumes.js';
import { claimFingerprint } from './fingerprints.js';
import { startListWatch, type ListWatch, type WatchedObject } from './list-watch.js';

/** A claim as raw JSON. */
type Claim = V1PersistentVolumeClaim & WatchedObject;

/** Wakes the run of a DataVolume when its claim changes: the scheduler chose a node, somebody deleted it, it was restored. */
export function watchClaims(options: {
  readonly kubeConfig: KubeConfig;
  readonly dataVolumes: Pick<DataVolumeWatch, 'wake' | 'get'>;
  readonly logger: Logger;
  readonly relistMs?: number | undefined;
}): ListWatch<Claim> {
  return startListWatch<Claim>({
    ...options,
    path: '/api/v1/persistentvolumeclaims',
    changed(key, { before, after }) {
      if (claimFingerprint(before) === claimFingerprint(after)) return;
      // A claim has its DataVolume's name, before it has an owner too; one of another name only by its owner.
      for (const name of new Set([key, ...ownersOf(after ?? before)])) {
        if (options.dataVolumes.get(name)) options.dataVolumes.wake(name);
      }
    },
  });
}

function ownersOf(claim: Claim | undefined): readonly string[] {
  const owners = claim?.metadata.ownerReferences ?? [];
  return owners
    .filter(({ kind }) => kind === 'DataVolume')
    .map(({ name }) => `${claim?.metadata.namespace}/${name}`);
}
