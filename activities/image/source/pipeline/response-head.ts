import type { IncomingHttpHeaders } from 'node:http';
import { withoutEnd } from '../../../without-end.js';

/** A head longer than this is refused by node:http too, which is asked then. */
export const MAX_HEAD_BYTES = 16 * 1024;

/** Status line and headers of an answer. */
export interface ResponseHead {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Bytes of the head, its empty line included. */
  readonly bytes: number;
  /** The server ends the connection after this answer. */
  readonly closes: boolean;
}

const END = '\r\n\r\n';
const BEGINNING = 'HTTP/1.';
/** What follows the status may be empty, but is text; a line end in it would hide the header behind it. */
const STATUS = /^HTTP\/1\.([01]) ([2-5]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?$/u;
/** LF without CR, CR without LF: lenient parsers find the end of a head where {@link END} never comes. */
const HALF_LINE_END = /(?<!\r)\n|\r[^\n]/u;
/** Field names and values as RFC 9110 §5.1 and §5.5 allow them; what is stranger is node:http's to judge. */
const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/u;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/u;
const BLANKS = ' \t';

/**
 * The head at the start of `bytes`: `undefined` while it is incomplete, `'odd'` where it is anything but a plain HTTP/1.x head
 * with each field once. Odd answers are asked for again by node:http, so that nothing here has to be lenient.
 */
export function parseResponseHead(bytes: Buffer): ResponseHead | 'odd' | undefined {
  const end = bytes.indexOf(END);
  if (end < 0) return mayBecomeHead(bytes) ? undefined : 'odd';
  const [first = '', ...lines] = bytes.toString('latin1', 0, end).split('\r\n');
  const status = STATUS.exec(first);
  if (!status) return 'odd';
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const field = fieldOf(line);
    if (!field) return 'odd';
    const [key, value] = field;
    // cookies and the like may come twice; nothing that is read here may
    if (key in headers && RELIED_ON.has(key)) return 'odd';
    headers[key] = value;
  }
  return {
    status: Number(status[2]),
    headers,
    bytes: end + END.length,
    closes: status[1] === '0' || /\bclose\b/iu.test(headers['connection'] ?? ''),
  };
}

/** What is none by now would be waited for until the server is taken for a stalled one, each time. */
function mayBecomeHead(bytes: Buffer): boolean {
  if (bytes.length >= MAX_HEAD_BYTES) return false;
  const text = bytes.toString('latin1');
  return BEGINNING.startsWith(text.slice(0, BEGINNING.length)) && !HALF_LINE_END.test(text);
}

/** Lines seen lately: a server repeats most of a head in each of thousands of answers. */
const fields = new Map<string, readonly [key: string, value: string]>();
const MOST_FIELDS = 64;

function fieldOf(line: string): readonly [key: string, value: string] | undefined {
  const known = fields.get(line);
  if (known) return known;
  const colon = line.indexOf(':');
  const name = line.slice(0, Math.max(colon, 0));
  // one regexp for both would look at blanks within the value once from each of them
  const value = withoutEnd(line.slice(colon + 1).replace(/^[ \t]+/u, ''), BLANKS);
  if (!NAME.test(name) || !VALUE.test(value)) return undefined;
  const field = [name.toLowerCase(), value] as const;
  if (fields.size >= MOST_FIELDS) fields.clear();
  fields.set(line, field);
  return field;
}

const RELIED_ON = new Set([
  'content-length',
  'content-range',
  'content-type',
  'content-encoding',
  'transfer-encoding',
  'etag',
  'last-modified',
  'connection',
]);
