/** The token of a request. */
import { UploadError } from './upload-failures.js';

/** CDI's own pattern: no padding. */
const BEARER = /^Bearer\s+([A-Za-z0-9\-._~+/]+)$/i;

/** Reads `Authorization: Bearer …`. @throws UploadError 400 where there is none, as CDI answers */
export function bearerToken(authorization: string | undefined): string {
  const token = BEARER.exec(authorization ?? '')?.[1];
  if (token === undefined)
    throw new UploadError(400, 'the request has no header "Authorization: Bearer <upload token>"');
  return token;
}
