import { invalid } from '../refusals.js';
import { untilNul } from './tar-header.js';

/** Keywords that are understood; all others (`uid`, `comment`, `SCHILY.xattr.…`) change nothing about the bytes. */
const KEYWORDS = new Set([
  'path',
  'linkpath',
  'size',
  'mtime',
  'GNU.sparse.major',
  'GNU.sparse.minor',
  'GNU.sparse.name',
  'GNU.sparse.size',
  'GNU.sparse.realsize',
  'GNU.sparse.numblocks',
  'GNU.sparse.map',
]);
/** Digits of a record's length; a header has no more than 1 MiB. */
const LENGTH_DIGITS = 8;

/** The records of one extended header. */
export interface PaxRecords {
  /** Values by keyword; an empty one takes back what a global header says. */
  readonly values: ReadonlyMap<string, Buffer>;
  /** Sparse format 0.0 repeats `GNU.sparse.offset` and `GNU.sparse.numbytes`: both in turn. */
  readonly pairs: readonly number[];
}

/** What extended headers say about one entry, its own before the global ones. */
export interface PaxAttributes {
  text(keyword: string): Buffer | undefined;
  /** Whole number, 0 or more. @throws {@link FailureType} `ImageInvalid` */
  count(keyword: string): number | undefined;
  /** Seconds with a fraction. @throws {@link FailureType} `ImageInvalid` */
  seconds(keyword: string): number | undefined;
  readonly pairs: readonly number[];
}

export const NO_RECORDS: PaxRecords = { values: new Map(), pairs: [] };

/** Reads the records `length keyword=value\n` of an extended header (POSIX.1-2017 `pax`). @throws {@link FailureType} `ImageInvalid` */
export function parsePax(bytes: Buffer, at: number): PaxRecords {
  const values = new Map<string, Buffer>();
  const pairs: number[] = [];
  for (let start = 0; start < bytes.length;) {
    // some writers count the padding of the header's block too
    if (bytes[start] === 0 && bytes.subarray(start).every((byte) => byte === 0)) break;
    const end = start + lengthOf(bytes, start, at);
    const equals = bytes.indexOf('=', start);
    const space = bytes.indexOf(' ', start);
    const whole = end <= bytes.length && bytes[end - 1] === 0x0a && space < equals && equals < end;
    if (!whole) throw damaged(at, start);
    const keyword = bytes.toString('utf8', space + 1, equals);
    const value = bytes.subarray(equals + 1, end - 1);
    if (KEYWORDS.has(keyword)) values.set(keyword, value);
    const even = pairs.length % 2 === 0;
    if (keyword === (even ? 'GNU.sparse.offset' : 'GNU.sparse.numbytes'))
      pairs.push(decimal(value.toString('latin1'), keyword));
    else if (keyword === 'GNU.sparse.offset' || keyword === 'GNU.sparse.numbytes') throw damaged(at, start);
    start = end;
  }
  return { values, pairs };
}

function lengthOf(bytes: Buffer, start: number, at: number): number {
  const head = bytes.toString('latin1', start, start + LENGTH_DIGITS + 1);
  const match = /^(\d+) /.exec(head);
  const length = Number(match?.[1]);
  if (!match || length <= match[0].length) throw damaged(at, start);
  return length;
}

function damaged(at: number, start: number): Error {
  return invalid(`PAX header at ${at} is damaged: no record begins at its byte ${start}`);
}

/** Joins what an entry's own header and the global headers before it say. */
export function paxAttributes(own: PaxRecords, globals: ReadonlyMap<string, Buffer>): PaxAttributes {
  function text(keyword: string): Buffer | undefined {
    // a sparse map for every file makes no sense
    const global = keyword.startsWith('GNU.') ? undefined : globals.get(keyword);
    const value = own.values.get(keyword) ?? global;
    return value && value.length > 0 ? value : undefined;
  }

  return {
    text,
    count(keyword) {
      const value = text(keyword);
      return value && decimal(value.toString('latin1'), keyword);
    },
    seconds(keyword) {
      const value = text(keyword)?.toString('latin1');
      if (value === undefined) return undefined;
      const seconds = /^-?\d{1,15}(\.\d{0,20})?$/.test(value) ? Number(value) : NaN;
      if (Number.isNaN(seconds)) throw invalid(`PAX keyword ${keyword} holds no time`);
      return seconds;
    },
    pairs: own.pairs,
  };
}

/** A decimal number of a PAX record or of a sparse map. @throws {@link FailureType} `ImageInvalid` */
export function decimal(digits: string, what: string): number {
  const value = /^\d{1,20}$/.test(digits) ? Number(digits) : NaN;
  if (!Number.isSafeInteger(value))
    throw invalid(`${what} holds no number of at most ${Number.MAX_SAFE_INTEGER}`);
  return value;
}

/** A name from a record. @throws {@link FailureType} `ImageInvalid` where it holds a NUL, which no name does */
export function paxName(value: Buffer, keyword: string): Buffer {
  if (untilNul(value).length !== value.length) throw invalid(`PAX keyword ${keyword} holds a NUL`);
  return Buffer.from(value);
}
