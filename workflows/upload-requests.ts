/** What a client of an upload may ask for, and how it is refused. */
import { ApplicationFailure } from '@temporalio/workflow';
import type { UploadRequest } from '../activities/types/upload.js';
import type { FailureType } from '../activities/types.js';

const SESSION = /^[\w-]{1,128}$/;
const CHECKSUM = /^(?:md5|sha1|sha256|sha512):[0-9a-f]+$/i;

/** Not written into the history: nothing was asked for. */
export function refuseMalformed(request: UploadRequest | undefined): void {
  const { session, length, checksum, contentType } = request ?? ({} as Partial<UploadRequest>);
  const wrong =
    (!SESSION.test(session ?? '') && 'session is 1 to 128 letters, digits, - and _') ||
    (length !== undefined &&
      !(Number.isSafeInteger(length) && length >= 0) &&
      'length is a number of bytes') ||
    (checksum !== undefined && !CHECKSUM.test(checksum) && 'checksum is algorithm:hex') ||
    (contentType !== 'kubevirt' && contentType !== 'archive' && 'contentType is kubevirt or archive');
  if (wrong) throw refusal('InvalidDataVolume', `the upload's request: ${wrong}`);
}

/** Another moment may be better. */
export function busy(message: string): ApplicationFailure {
  return refusal('UploadInProgress', message, false);
}

/** The failure of an Update. */
export function refusal(type: FailureType, message: string, nonRetryable = true): ApplicationFailure {
  return ApplicationFailure.create({ type, message, nonRetryable });
}
