import type { IncomingHttpHeaders } from 'node:http';
import type { SourceValidators } from '../../types.js';

/** Bytes asked for; `end` is exclusive and absent for "to the end". */
export interface ByteRange {
  readonly start: number;
  readonly end?: number;
}

/** A parsed `Content-Range: bytes first-last/total`; `end` is exclusive. */
export interface ContentRange {
  readonly start: number;
  readonly end: number;
  /** Absent for `*`. */
  readonly total?: number;
}

/** Reads Content-Range (RFC 9110 §14.4); `undefined` for anything but one satisfied byte range. */
export function parseContentRange(text: string | undefined): ContentRange | undefined {
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/iu.exec(text?.trim() ?? '');
  if (!match) return undefined;
  const [start, last] = [Number(match[1]), Number(match[2])];
  const total = match[3] === '*' ? undefined : Number(match[3]);
  if (last < start || (total !== undefined && last >= total)) return undefined;
  return { start, end: last + 1, ...(total === undefined ? {} : { total }) };
}

/** Total that a 416 states in its Content-Range (RFC 9110 §15.5.17). */
export function unsatisfiedTotal(headers: IncomingHttpHeaders): number | undefined {
  const match = /^bytes \*\/(\d{1,15})$/iu.exec(headers['content-range']?.trim() ?? '');
  return match ? Number(match[1]) : undefined;
}

/** Value of the Range header. */
export function rangeHeader({ start, end }: ByteRange): string {
  return `bytes=${start}-${end === undefined ? '' : end - 1}`;
}

/** The range that a 206 carries, if it is one part with a known total; a multipart body or `*` is of no use to a reader. */
export function exactRange(headers: IncomingHttpHeaders): (ContentRange & { total: number }) | undefined {
  if (/^multipart\//iu.test(headers['content-type']?.trim() ?? '')) return undefined;
  const range = parseContentRange(headers['content-range']);
  if (range?.total === undefined) return undefined;
  const length = contentLength(headers);
  if (length !== undefined && length !== range.end - range.start) return undefined;
  return { ...range, total: range.total };
}

/** Content-Length as a number; where the body comes in chunks it means nothing (RFC 9112 §6.3). */
export function contentLength(headers: IncomingHttpHeaders): number | undefined {
  const text = headers['transfer-encoding'] === undefined ? headers['content-length'] : undefined;
  return text !== undefined && /^\d{1,15}$/u.test(text) ? Number(text) : undefined;
}

/** Whether nothing but the end of the connection ends the body of a 200 (RFC 9112 §6.3). */
export function endsByClose(headers: IncomingHttpHeaders): boolean {
  const chunked = /\bchunked\s*$/iu.test(headers['transfer-encoding'] ?? '');
  return !chunked && contentLength(headers) === undefined;
}

/** Validators of an answer; `length` is the caller's, since 200 and 206 say it in different headers. */
export function validatorsOf(headers: IncomingHttpHeaders, length: number | undefined): SourceValidators {
  const { etag, 'last-modified': lastModified } = headers;
  return {
    ...(etag ? { etag } : {}),
    ...(lastModified ? { lastModified } : {}),
    ...(length === undefined ? {} : { length }),
  };
}

/** `If-Range` is only defined for strong validators (RFC 9110 §13.1.5); Last-Modified is too coarse to be one. */
export function ifRangeOf({ etag }: SourceValidators): string | undefined {
  return etag !== undefined && /^"[^"]*"$/u.test(etag) ? etag : undefined;
}

/** Whether both have the same strong ETag, which by RFC 9110 §8.8.1 only the same bytes have, whatever their dates. */
export function haveSameStrongEtag(before: SourceValidators, now: SourceValidators): boolean {
  const etag = ifRangeOf(before);
  return etag !== undefined && etag === now.etag;
}

/**
 * In which way two answers are not the same version of a source, in words with both values, or `undefined`. An ETag must stay
 * as it was, present or absent. Last-Modified and length count where both answers say them: a 206 to `If-Range` may leave
 * Last-Modified out (RFC 9110 §15.3.7), chunked answers say no length. Beside the same strong ETag no date counts: the machines
 * behind one name got the file at different times.
 */
export function differenceBetween(before: SourceValidators, now: SourceValidators): string | undefined {
  if (weak(before.etag) !== weak(now.etag)) return difference('ETag', before.etag, now.etag);
  if (!haveSameStrongEtag(before, now) && differs(before.lastModified, now.lastModified)) {
    return difference('Last-Modified', before.lastModified, now.lastModified);
  }
  if (differs(before.length, now.length)) return difference('length', before.length, now.length);
  return undefined;
}

/** Whether nothing says that two versions have different lengths. */
export function mayHaveSameLength(before: SourceValidators, now: SourceValidators): boolean {
  return !differs(before.length, now.length);
}

/** Front ends that compress weaken an ETag in passing (RFC 9110 §8.8.3.2: weak comparison). */
function weak(etag: string | undefined): string | undefined {
  return etag?.replace(/^W\//u, '');
}

function differs<T>(before: T | undefined, now: T | undefined): boolean {
  return before !== undefined && now !== undefined && before !== now;
}

type Value = string | number | undefined;

function difference(what: string, before: Value, now: Value): string {
  return `${what} was ${before ?? 'absent'}, is ${now ?? 'absent'}`;
}
