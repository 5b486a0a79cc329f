/** What went wrong with an upload, and how a client of CDI's endpoints is told (`cdi.md` §3.3, §3.4). */
import type { IncomingMessage } from 'node:http';
import { WorkflowNotFoundError, WorkflowUpdateFailedError } from '@temporalio/client';
import type { Logger } from '@temporalio/common';
import { ApplicationFailure, FAILURES_OF_THE_FILE, failureTypeOf } from '../../activities/failures.js';
import type { FailureType } from '../../activities/types.js';
import { ClaimNotReadyError } from './upload-claims.js';
import { TokenError } from './tokens.js';

/** Answers to a client; the text reaches the user of virtctl as it is. */
export interface UploadAnswer {
  readonly status: number;
  readonly message: string;
  /** Offset from which the same session goes on. */
  readonly offset?: number;
}

/** An upload that ends with this answer. */
export class UploadError extends Error implements UploadAnswer {
  override readonly name = 'UploadError';
  readonly status: number;
  readonly offset?: number;
  constructor(
    status: number,
    message: string,
    options: { readonly type?: string; readonly offset?: number; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.status = status;
    if (options.type !== undefined) this.type = options.type;
    if (options.offset !== undefined) this.offset = options.offset;
  }
  /** {@link FailureType}, where there is one. */
  readonly type?: string;
}

/** What the client sends is at fault, or the claim is too small for it: CDI answers these by 400. */
const CLIENT_TYPES: readonly FailureType[] = [
  ...FAILURES_OF_THE_FILE,
  'NoSpace',
  'ScratchSpaceRequired',
  'VolumeTooSmall',
];

/** Another moment may be better; CDI answers these by 503. */
const LATER_TYPES: readonly FailureType[] = [
  'ExceededQuota',
  'KubernetesUnavailable',
  'NodeUnavailable',
  'ScratchUnavailable',
  'UploadInProgress',
  'UploadTargetInUse',
];

/** The rest that has a status of its own: CDI's for a disk that is complete, and HTTP's for a slow client and a wrong offset. */
const STATUSES: Readonly<Record<string, number>> = {
  ResourceExists: 409,
  SourceChanged: 409,
  SourceUnavailable: 408,
} satisfies Partial<Record<FailureType, number>>;

/** CDI's first words where an upload that has begun fails. */
const SAVING_FAILED = 'Saving stream failed';

/** The HTTP status that a failure of this type is told by. */
export function statusOfType(type: string | undefined): number {
  if (CLIENT_TYPES.some((known) => known === type)) return 400;
  if (LATER_TYPES.some((known) => known === type)) return 503;
  return STATUSES[type ?? ''] ?? 500;
}

/** The failure of an upload that has begun. */
export function uploadFailed({
  type,
  message,
  offset,
}: {
  readonly type?: string;
  readonly message: string;
  readonly offset?: number;
}): UploadError {
  return new UploadError(statusOfType(type), `${SAVING_FAILED}: ${message}`, {
    ...(type === undefined ? {} : { type }),
    ...(offset === undefined ? {} : { offset }),
  });
}

/** Who is not believed, what is for something else (CDI's), and who may no longer. */
const TOKEN_STATUSES = { invalid: 401, expired: 401, unfit: 400, forbidden: 403 } as const;

/** What a client is answered for an error of any kind. */
export function answerOf(error: unknown): UploadAnswer {
  if (error instanceof UploadError) return error;
  if (error instanceof ClaimNotReadyError) return { status: 503, message: error.message };
  if (error instanceof TokenError) return { status: TOKEN_STATUSES[error.kind], message: error.message };
  if (error instanceof WorkflowNotFoundError)
    return { status: 503, message: 'no upload is awaited: its workflow has ended or does not run yet' };
  const failure = applicationFailureIn(error);
  if (failure) return { status: statusOfType(failureTypeOf(failure)), message: failure.message };
  return { status: 500, message: 'error in upload-proxy: see the log of the gateway' };
}

/** Logs what nobody foresaw, and whose message no client is shown; whatever follows from a client that is gone is foreseen. */
export function logUnforeseen(
  { logger }: { readonly logger: Pick<Logger, 'error'> },
  request: Pick<IncomingMessage, 'destroyed' | 'complete'>,
  error: unknown,
): void {
  if (isForeseen(error) || (request.destroyed && !request.complete)) return;
  logger.error('an upload failed', { error });
}

function isForeseen(error: unknown): boolean {
  return (
    error instanceof UploadError ||
    error instanceof ClaimNotReadyError ||
    error instanceof TokenError ||
    error instanceof WorkflowNotFoundError ||
    applicationFailureIn(error) !== undefined
  );
}

/** {@link FailureType} of an error, or of what has caused it. */
export function failureTypeIn(error: unknown): string | undefined {
  if (error instanceof UploadError) return error.type;
  const failure = applicationFailureIn(error);
  return failure && failureTypeOf(failure);
}

function applicationFailureIn(error: unknown): ApplicationFailure | undefined {
  if (error instanceof ApplicationFailure) return error;
  if (error instanceof WorkflowUpdateFailedError) return applicationFailureIn(error.cause);
  const cause = error instanceof Error ? error.cause : undefined;
  return cause === undefined ? undefined : applicationFailureIn(cause);
}
