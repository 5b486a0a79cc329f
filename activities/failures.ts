// not from the package's root, which loads codecs and clocks that a mover of bytes has no use for: 30 ms of each start
import { ApplicationFailure } from '@temporalio/common/lib/failure.js';
import type { FailureType, PermanentFailureType, TransientFailureType } from './types.js';

/** Whether each type is permanent: the run-time twin of the unions in `types.ts`, checked both ways by the compiler. */
export const FAILURE_TYPES = {
  InvalidDataVolume: 'permanent',
  InvalidHostPathProvisioner: 'permanent',
  UnsupportedSource: 'permanent',
  UnsupportedFormat: 'permanent',
  ContentTypeNotSupported: 'permanent',
  IncompatibleVolumeModes: 'permanent',
  NotAuthorized: 'permanent',
  SourceNotAllowed: 'permanent',
  InvalidLocalVolume: 'permanent',
  InvalidArgument: 'permanent',
  SourceNotFound: 'permanent',
  SourceForbidden: 'permanent',
  SourceCertificateInvalid: 'permanent',
  ChecksumMismatch: 'permanent',
  ImageInvalid: 'permanent',
  ImageHostile: 'permanent',
  LargerPVCRequired: 'permanent',
  StorageClassNotFound: 'permanent',
  ClaimLost: 'permanent',
  ResourceExists: 'permanent',
  IncompatiblePVC: 'permanent',
  VolumeTooSmall: 'permanent',
  UploadTargetInUse: 'permanent',
  ScratchSpaceRequired: 'permanent',
  DeadlineExceeded: 'permanent',
  SourceUnavailable: 'transient',
  SourceChanged: 'transient',
  CloneSourceInUse: 'transient',
  UploadInProgress: 'transient',
  ExceededQuota: 'transient',
  NodeUnavailable: 'transient',
  PermissionDenied: 'transient',
  NoSpace: 'transient',
  ScratchUnavailable: 'transient',
  KubernetesUnavailable: 'transient',
} as const satisfies Record<PermanentFailureType, 'permanent'> & Record<TransientFailureType, 'transient'>;

/** A failure that no retry cures; the message goes to the user as it is and holds no credential and no byte of a response body. */
export function permanentFailure(type: FailureType, message: string, cause?: unknown): ApplicationFailure {
  return ApplicationFailure.create({ type, message, nonRetryable: true, ...asCause(cause) });
}

/** A failure that a later attempt may not meet; `nextRetryDelay` in ms overrides the policy's back-off. */
export function transientFailure(
  type: TransientFailureType,
  message: string,
  options: { cause?: unknown; nextRetryDelayMs?: number } = {},
): ApplicationFailure {
  const { cause, nextRetryDelayMs } = options;
  return ApplicationFailure.create({
    type,
    message,
    nonRetryable: false,
    ...(nextRetryDelayMs === undefined ? {} : { nextRetryDelay: nextRetryDelayMs }),
    ...asCause(cause),
  });
}

/** Detail of a failure that is the silence of another node, or of a file system. */
const AWAY = 'away';

/**
 * Another node, or a file system of this one, does not answer. It says nothing about source or target, so that only the lifecycle's
 * deadline ends the wait for it.
 */
export function awayFailure(
  message: string,
  options: { cause?: unknown; nextRetryDelayMs: number },
): ApplicationFailure {
  return ApplicationFailure.create({
    type: 'NodeUnavailable' satisfies TransientFailureType,
    message,
    nonRetryable: false,
    nextRetryDelay: options.nextRetryDelayMs,
    details: [AWAY],
    ...asCause(options.cause),
  });
}

/** Whether a failure is one of {@link awayFailure}. */
export function isAway(error: unknown): boolean {
  return error instanceof ApplicationFailure && error.details?.[0] === AWAY;
}

/** The {@link FailureType} of a failure that dvflow threw, else `undefined`. */
export function failureTypeOf(error: unknown): FailureType | undefined {
  if (!(error instanceof ApplicationFailure)) return undefined;
  return error.type && error.type in FAILURE_TYPES ? (error.type as FailureType) : undefined;
}

function asCause(cause: unknown): { cause?: Error } {
  return cause instanceof Error ? { cause } : {};
}

/** What is wrong with the file itself: nothing of it is kept, and no other try of the same bytes can end otherwise. */
export const FAILURES_OF_THE_FILE: readonly FailureType[] = [
  'ChecksumMismatch',
  'ContentTypeNotSupported',
  'ImageHostile',
  'ImageInvalid',
  'InvalidDataVolume',
  'LargerPVCRequired',
  'UnsupportedFormat',
];

export { ApplicationFailure };
