import type { IncomingHttpHeaders } from 'node:http';

/** What stands in Content-Encoding without any coding: how an upload was framed, or a mistake. The bytes are as they were stored. */
const LABELS = new Set(['', 'identity', 'aws-chunked', 'none', 'binary', 'utf-8', 'utf8']);

/** What the engine knows by its magic number; another coding would look like a raw disk. */
const RECOGNISED = new Set(['gzip', 'x-gzip', 'xz', 'x-xz', 'zstd']);

/** The codings of a body, in the order in which they were applied; mere labels are left out. */
export function codingsOf(headers: IncomingHttpHeaders): string[] {
  const text = headers['content-encoding'] ?? '';
  return text
    .split(',')
    .map((coding) => coding.trim().toLowerCase())
    .filter((coding) => !LABELS.has(coding));
}

/** The coding that makes a body unreadable, if there is one. */
export function unreadableCoding(headers: IncomingHttpHeaders): string | undefined {
  return codingsOf(headers).find((coding) => !RECOGNISED.has(coding));
}
