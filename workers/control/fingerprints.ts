import type { V1PersistentVolumeClaim } from '@kubernetes/client-node';
import {
  CDI_ANNOTATIONS,
  MARK_PREFIX,
  PROVISION_ON_NODE,
  SELECTED_NODE,
} from '../../activities/kubernetes/names.js';
import type { DataVolume } from '../../activities/kubernetes/objects.js';

/** Annotations that a lifecycle writes itself; a change of them is no news to it. */
function isOwn(name: string): boolean {
  return name.startsWith(MARK_PREFIX)
    ? name !== `${MARK_PREFIX}deadline`
    : name === CDI_ANNOTATIONS.usePopulator;
}

/** What of a DataVolume a waiting lifecycle may be waiting for: its spec and the annotations of others. */
export function fingerprint({ metadata, spec }: Pick<DataVolume, 'metadata' | 'spec'>): string {
  const annotations = Object.entries(metadata.annotations ?? {}).filter(([name]) => !isOwn(name));
  return JSON.stringify([metadata.uid, spec, annotations.sort()]);
}

/** What of a claim a waiting lifecycle may be waiting for: node, binding, size, an upload, whose data it holds, and that it exists. */
export function claimFingerprint(claim: V1PersistentVolumeClaim | undefined): string {
  if (!claim) return '';
  const { metadata, spec, status } = claim;
  const annotations = metadata?.annotations ?? {};
  return JSON.stringify([
    metadata?.uid,
    metadata?.deletionTimestamp,
    annotations[SELECTED_NODE],
    annotations[PROVISION_ON_NODE],
    annotations[CDI_ANNOTATIONS.immediate],
    annotations[CDI_ANNOTATIONS.uploadTarget],
    annotations[CDI_ANNOTATIONS.populatedFor],
    spec?.volumeName,
    spec?.resources?.requests,
    status?.phase,
  ]);
}
