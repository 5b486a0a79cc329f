/** What a clone's target must be like for its source (`cdi.md` §4.5). */
import { permanentFailure } from '../../failures.js';
import { requestFor } from '../../image/size.js';
import type { CloneOrigin, SourceContent } from '../../types/clone.js';
import type { ContentType, TargetPlan } from '../../types.js';

/** CDI's annotation by which a user takes a smaller claim than the source's, as long as the data fits. */
export const PERMISSIVE_CLONE = 'cdi.kubevirt.io/permissiveClone';

/** A clone that is to be judged. */
export interface CloneRequest {
  /** `namespace/name` of the new claim. */
  readonly claim: string;
  readonly contentType: ContentType;
  readonly target: TargetPlan;
  readonly origin: CloneOrigin;
  readonly content: SourceContent;
  /** The user, or the size that was taken from the source, allows a smaller request than the source's. */
  readonly permissive: boolean;
}

/** @throws {@link FailureType} `ContentTypeNotSupported`, `IncompatibleVolumeModes`, `LargerPVCRequired` with both figures */
export function judgeClone(request: CloneRequest): void {
  refuseContent(request);
  refuseModes(request);
  refuseRequest(request);
  refuseSize(request);
}

function refuseContent({ contentType, origin }: CloneRequest): void {
  if (contentType === origin.contentType) return;
  throw permanentFailure(
    'ContentTypeNotSupported',
    `Source contentType (${origin.contentType}) and target contentType (${contentType}) do not match`,
  );
}

/** A disk goes from a file to a device and back; files of an archive have no place on a device. */
function refuseModes({ contentType, origin, target }: CloneRequest): void {
  const source = origin.volume.volumeMode;
  if (contentType === 'kubevirt' || (source === 'Filesystem' && target.volumeMode === source)) return;
  throw permanentFailure(
    'IncompatibleVolumeModes',
    `source volumeMode (${source}) and target volumeMode (${target.volumeMode}) do not match, contentType (${contentType})`,
  );
}

/**
 * CDI compares what the claims ask for (`vm-disks-docs.md` E14); but what `spec.storage` asks for a disk in a file contains the file
 * system overhead of its class, which says nothing about the disk (`validateClone` of CDI's `pvc-clone-controller.go`).
 */
function refuseRequest({ claim, contentType, target, origin, permissive }: CloneRequest): void {
  const inflated = target.api === 'storage' && origin.volume.volumeMode === 'Filesystem';
  if (permissive || (inflated && contentType === 'kubevirt')) return;
  if (target.requestBytes >= origin.requestBytes) return;
  const { namespace, name } = origin.claim;
  throw permanentFailure(
    'LargerPVCRequired',
    `target resources requests storage size is smaller than the source: claim ${claim} asks for ${target.requestBytes} bytes, ` +
      `claim ${namespace}/${name} for ${origin.requestBytes}: ask for at least as much, or set annotation ${PERMISSIVE_CLONE} if the disk is smaller`,
  );
}

/** What counts in the end is the disk. */
function refuseSize({ claim, contentType, target, origin, content }: CloneRequest): void {
  const needed = contentType === 'archive' ? content.allocatedBytes : content.bytes;
  if (needed <= target.usableBytes) return;
  const { namespace, name } = origin.claim;
  const what = contentType === 'archive' ? 'files' : 'disk';
  const percent = Number((target.overhead * 100).toFixed(3));
  const after = target.overhead > 0 ? ` after ${percent}% file system overhead` : '';
  throw permanentFailure(
    'LargerPVCRequired',
    `the ${what} of claim ${namespace}/${name} need${what === 'disk' ? 's' : ''} ${needed} bytes, claim ${claim} offers ` +
      `${target.usableBytes}${after}: ask for at least ${requestFor(needed, target)}`,
  );
}
