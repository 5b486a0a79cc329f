import type { KubeConfig, V1PersistentVolumeClaim } from '@kubernetes/client-node';
import type { Logger } from '@temporalio/common';
import { isBoundUnpublished } from '../../activities/kubernetes/hand-over.js';
import { MARKS } from '../../activities/kubernetes/names.js';
import type { DataSourceWatch } from './data-sources.js';
import type { DataVolumeWatch } from './data-volumes.js';
import { claimFingerprint } from './fingerprints.js';
import { startListWatch, type ListWatch, type WatchedObject } from './list-watch.js';
import type { Provisioner } from './provisioner.js';
import type { UploadClaims } from './upload-claims.js';

/** A claim as raw JSON. */
type Claim = V1PersistentVolumeClaim & WatchedObject;

/**
 * Wakes the run of a DataVolume when its claim changes: the scheduler chose a node, somebody deleted it, it was restored. Tells the
 * provisioner of every claim.
 */
export function watchClaims(options: {
  readonly kubeConfig: KubeConfig;
  readonly dataVolumes: Pick<DataVolumeWatch, 'wake' | 'get'>;
  readonly provisioner: Pick<Provisioner, 'changed' | 'listed'>;
  readonly uploads: Pick<UploadClaims, 'changed' | 'listed'>;
  readonly dataSources: Pick<DataSourceWatch, 'claimChanged'>;
  readonly logger: Logger;
  readonly relistMs?: number | undefined;
}): ListWatch<Claim> {
  return startListWatch<Claim>({
    ...options,
    path: '/api/v1/persistentvolumeclaims',
    changed(key, change) {
      options.provisioner.changed(key, change);
      options.uploads.changed(key, change);
      options.dataSources.claimChanged(key, change);
      const { before, after } = change;
      if (claimFingerprint(before) === claimFingerprint(after)) return;
      // A claim has its DataVolume's name, before it has an owner too; one of another name only by its owner or its mark.
      for (const name of new Set([key, ...servedBy(after ?? before)])) {
        if (options.dataVolumes.get(name)) options.dataVolumes.wake(name, isLost(change));
      }
    },
    listed() {
      options.provisioner.listed();
      options.uploads.listed();
    },
  });
}

/**
 * The claim is gone, or going: a finalizer keeps it for a moment only. Or it is Bound to a volume that nobody has handed over: that of
 * its name was made anew, or released, while it is filled.
 */
export function isLost({ before, after }: { before?: Claim; after?: Claim }): boolean {
  const gone = before !== undefined && before.metadata.uid !== after?.metadata.uid;
  const isBoundEarly =
    after !== undefined &&
    isBoundUnpublished(after) &&
    after.metadata.annotations?.[MARKS.handedOver] === undefined;
  return gone || after?.metadata.deletionTimestamp !== undefined || isBoundEarly;
}

/** DataVolumes that a claim is of: by its owners, and by the mark on a claim of dvflow's own, which has none. */
function servedBy(claim: Claim | undefined): readonly string[] {
  const { namespace, ownerReferences = [], annotations = {} } = claim?.metadata ?? {};
  const owners = ownerReferences.filter(({ kind }) => kind === 'DataVolume');
  const marked = annotations[MARKS.dataVolume];
  return [...owners.map(({ name }) => `${namespace}/${name}`), ...(marked === undefined ? [] : [marked])];
}
