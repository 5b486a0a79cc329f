/** Why runs fail. */

/**
 * Why a run failed: the public contract of `docs/failures.md`, and the `type` of every `ApplicationFailure` that dvflow
 * throws. The first four groups are permanent (no retry cures them), the last is retried or waited for.
 */
export type FailureType = PermanentFailureType | TransientFailureType;

/** Failures that no retry cures; thrown `nonRetryable`. */
export type PermanentFailureType =
  // the request
  | 'InvalidDataVolume'
  | 'InvalidHostPathProvisioner'
  | 'UnsupportedSource'
  | 'UnsupportedFormat'
  | 'ContentTypeNotSupported'
  | 'IncompatibleVolumeModes'
  | 'NotAuthorized'
  | 'SourceNotAllowed'
  | 'InvalidLocalVolume'
  | 'InvalidArgument'
  // the source
  | 'SourceNotFound'
  | 'SourceForbidden'
  | 'SourceCertificateInvalid'
  | 'ChecksumMismatch'
  | 'ImageInvalid'
  | 'ImageHostile'
  // the target
  | 'LargerPVCRequired'
  | 'StorageClassNotFound'
  | 'ClaimLost'
  | 'ResourceExists'
  | 'IncompatiblePVC'
  | 'VolumeTooSmall'
  | 'UploadTargetInUse'
  | 'ScratchSpaceRequired'
  // time
  | 'DeadlineExceeded';

/** Failures that are retried or waited for; the tenth barren attempt makes one permanent. */
export type TransientFailureType =
  | 'SourceUnavailable'
  | 'SourceChanged'
  | 'CloneSourceInUse'
  | 'UploadInProgress'
  | 'ExceededQuota'
  | 'NodeUnavailable'
  | 'PermissionDenied'
  | 'NoSpace'
  | 'ScratchUnavailable'
  | 'KubernetesUnavailable';
