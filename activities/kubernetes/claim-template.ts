/** What a DataVolume's `spec.pvc` or `spec.storage` says about its claim. */
import { permanentFailure } from '../failures.js';
import { CDI_ANNOTATIONS } from './names.js';
import type { ClaimTemplate, DataVolume, StorageProfile } from './objects.js';
import { requiredSpace } from './overhead.js';
import { sizeBytes } from './quantity.js';

/** The part of the spec that describes the claim. */
export function templateOf({ spec }: DataVolume): { api: 'pvc' | 'storage'; template: ClaimTemplate } {
  return spec.storage ? { api: 'storage', template: spec.storage } : { api: 'pvc', template: spec.pvc ?? {} };
}

/** The claim's storage request, in bytes. @throws {@link FailureType} `InvalidDataVolume` */
export function requestOf(
  template: ClaimTemplate,
  api: 'pvc' | 'storage',
  overhead: number,
  profile: StorageProfile | undefined,
): number {
  const asked = template.resources?.requests?.storage;
  if (asked === undefined)
    throw permanentFailure('InvalidDataVolume', `spec.${api}.resources.requests.storage is missing`);
  const bytes = sizeBytes(asked, `spec.${api}.resources.requests.storage`);
  if (api === 'pvc') return bytes;
  const minimum = profile?.metadata?.annotations?.[CDI_ANNOTATIONS.minimumClaimSize];
  const least =
    minimum === undefined ? 0 : sizeBytes(minimum, `annotation ${CDI_ANNOTATIONS.minimumClaimSize}`);
  return Math.max(requiredSpace(overhead, bytes), least);
}

/** @throws {@link FailureType} `ContentTypeNotSupported` for an archive on a Block volume */
export function refuseContent({ spec }: DataVolume, { volumeMode }: Pick<ClaimTemplate, 'volumeMode'>): void {
  if (spec.contentType !== 'archive' || volumeMode !== 'Block') return;
  throw permanentFailure(
    'ContentTypeNotSupported',
    `contentType archive is unpacked into a file system, and volumeMode is ${volumeMode}: use volumeMode Filesystem`,
  );
}
