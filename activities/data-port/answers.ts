import type { ServerResponse } from 'node:http';
import { ApplicationFailure, failureTypeOf } from '../failures.js';
import { nameUnforeseen } from '../image/unforeseen.js';
import type { DataPortFailure } from '../types/data-port.js';
import type { FailureType } from '../types.js';

/** Status of a failure on the data port: what the request is to blame for, what is missing, and what may be different later. */
const STATUSES: Partial<Record<FailureType, number>> = {
  SourceUnavailable: 408,
  SourceNotFound: 404,
  SourceForbidden: 403,
  LargerPVCRequired: 413,
  NoSpace: 507,
  ScratchUnavailable: 507,
  NodeUnavailable: 503,
  KubernetesUnavailable: 503,
  PermissionDenied: 503,
  SourceChanged: 409,
  ResourceExists: 409,
  UploadInProgress: 409,
};

/** Answers with a failure, as JSON ({@link DataPortFailure}). */
export function answerFailure(
  response: ServerResponse,
  failure: DataPortFailure,
  status = statusOf(failure),
): void {
  if (response.headersSent || response.destroyed) return void response.destroy();
  const body = JSON.stringify(failure);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    ...(failure.offset === undefined ? {} : { 'upload-offset': `${failure.offset}` }),
  });
  response.end(body);
}

/** A failure in the words of the data port; what nobody foresaw is told without what it may quote. */
export function describeFailure(error: unknown, offset?: number): DataPortFailure {
  const more = offset === undefined ? {} : { offset };
  const type = failureTypeOf(error);
  if (type === undefined || !(error instanceof ApplicationFailure))
    return { type: 'NodeUnavailable', message: nameUnforeseen(error), retryable: true, ...more };
  return { type, message: error.message, retryable: error.nonRetryable !== true, ...more };
}

function statusOf({ type, retryable }: DataPortFailure): number {
  return STATUSES[type as FailureType] ?? (retryable ? 503 : 422);
}
