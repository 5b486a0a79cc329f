import { permanentFailure } from '../../failures.js';

/**
 * Escapes everything but the unreserved characters of RFC 3986, as signatures and object stores want it.
 *
 * @throws `InvalidDataVolume` for half a surrogate pair, which is no character.
 */
export function encodeSegment(text: string): string {
  if (!isWellFormed(text)) throw permanentFailure('InvalidDataVolume', 'object name is not well-formed text');
  return encodeURIComponent(text).replace(/[!'()*]/gu, (character) => {
    return `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
  });
}

/**
 * A path of an object store with each element escaped in the one way that signatures are made over; its slashes stay.
 *
 * @throws `InvalidDataVolume` for `.` and `..`, which every HTTP client takes away.
 */
export function encodePath(path: string): string {
  const elements = path.split('/');
  if (elements.some((element) => element === '.' || element === '..')) {
    throw permanentFailure('InvalidDataVolume', 'object name has an element . or .., which no URL can carry');
  }
  return elements.map(encodeSegment).join('/');
}

/**
 * Refuses what is no bucket, but keys before one (`s3://key:secret@bucket`): they would be sent as a part of the path, and shown.
 *
 * @throws `InvalidDataVolume`, without a word of it.
 */
export function refuseCredentials(bucket: string): void {
  if (!/[@:]/u.test(bucket)) return;
  const text = 'no bucket has @ or : in its name; credentials belong into a Secret, not into the address';
  throw permanentFailure('InvalidDataVolume', text);
}

/**
 * What the path of a URL spells.
 *
 * @throws `InvalidDataVolume` for escapes that are no UTF-8.
 */
export function decodePath(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    throw permanentFailure('InvalidDataVolume', 'object name has an escape that is no UTF-8');
  }
}

/** `String.prototype.isWellFormed`, which the compiler's library does not know yet. */
function isWellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text);
}
