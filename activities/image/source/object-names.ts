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
 * A path of an object store with each element escaped in the one way that signatures are made over; slashes at its start are
 * one, at its end none.
 *
 * @param reading `url`: escapes of the path are decoded first; `literal`: a percent sign stands for itself
 * @throws `InvalidDataVolume` for `.` and `..`, which every HTTP client takes away, and what {@link decodePath} throws.
 */
export function encodePath(path: string, reading: 'url' | 'literal' = 'url'): string {
  const elements = (reading === 'url' ? decodePath(path) : path).split('/');
  const first = elements.findIndex((element) => element !== '');
  const last = elements.findLastIndex((element) => element !== '');
  if (first < 0) return '';
  const kept = elements.slice(first, last + 1);
  if (kept.some((element) => element === '.' || element === '..')) {
    throw permanentFailure('InvalidDataVolume', 'object name has an element . or .., which no URL can carry');
  }
  return kept.map((element) => `/${encodeSegment(element)}`).join('');
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
