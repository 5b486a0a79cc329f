import { invalid, unsupported } from '../refusals.js';

/** Signatures of APPNOTE 4.3. */
export const SIGNATURE = {
  local: 0x04034b50,
  descriptor: 0x08074b50,
  directory: 0x02014b50,
  end64: 0x06064b50,
  locator64: 0x07064b50,
  end: 0x06054b50,
} as const;

/** Bytes of the fixed part of each. */
export const LOCAL_BYTES = 30;
const RECORD_BYTES = 46;
const END64_BYTES = 56;
const LOCATOR64_BYTES = 20;
const END_BYTES = 22;
const MAX_COMMENT = 0xffff;

/** Entries that an archive around one disk image may have, directories included, and the bytes that describe them. */
export const MAX_ENTRIES = 1000;
const MAX_DIRECTORY_BYTES = 1024 * 1024;
/** A directory and all that may come after it. */
export const MAX_TAIL_BYTES = MAX_DIRECTORY_BYTES + END64_BYTES + LOCATOR64_BYTES + END_BYTES + MAX_COMMENT;

/** How the bytes of a zip archive are reached. */
export interface ZipBytes {
  /** Length of the archive. */
  readonly size: number;
  /** Offset of the first byte that can be read; @default 0 */
  readonly from?: number;
  readonly read: (offset: number, length: number) => Promise<Buffer>;
}

/** Where the central directory is. */
export interface ZipDirectory {
  /** Offset of its first record. */
  readonly start: number;
  /** Offset of the end record. */
  readonly end: number;
  /** The archive from `start` on. */
  readonly tail: Buffer;
}

/**
 * Refuses what looks like a raw disk and ends as a zip: the last of several parts, or an archive behind a program that unpacks it.
 * `end` is the end of the file; seen is what has no comment and a directory that fits into it, as one file's does.
 * @throws {@link FailureType} `UnsupportedFormat`
 */
export function refuseZipBehind(end: Buffer): void {
  const at = end.length - END_BYTES;
  if (at < 0 || end.readUInt32LE(at) !== SIGNATURE.end || end.readUInt16LE(at + 20) !== 0) return;
  const directory = at - end.readUInt32LE(at + 12);
  if (directory < 0 || directory + RECORD_BYTES > at) return;
  if (end.readUInt32LE(directory) !== SIGNATURE.directory) return;
  throw unsupported(
    end.readUInt16LE(at + 4) === 0
      ? 'image is a zip archive with other bytes before it: take the image out of it'
      : 'image is the last part of a zip in several: take the image out of them',
  );
}

/** What an end record, old or 64-bit, says. */
interface Said {
  readonly disks: number;
  readonly records: number;
  readonly length: number;
  readonly offset: number;
}

/**
 * Finds the central directory, and checks that it is where and as long as the end records say.
 * @throws {@link FailureType} `ImageInvalid`, `UnsupportedFormat`
 */
export async function findDirectory({ size, from = 0, read }: ZipBytes): Promise<ZipDirectory> {
  const last = Math.min(size - from, END_BYTES + MAX_COMMENT + LOCATOR64_BYTES + END64_BYTES);
  const tail = await read(size - last, last);
  const within = findEnd(tail);
  const end = size - last + within;
  const said = saidAt(tail, within, size - last);
  if (said.disks !== 0) throw unsupported('zip archive is one of several volumes');
  if (said.records > MAX_ENTRIES || said.length > MAX_DIRECTORY_BYTES)
    throw unsupported(
      `zip archive has ${said.records} entries in a directory of ${said.length} bytes: one disk image is expected`,
    );
  if (said.offset + said.length !== said.until)
    throw invalid(
      `zip directory ends at ${said.offset + said.length} by its end record, which is at ${said.until}`,
    );
  const start = said.offset;
  if (start < from) throw invalid(`zip directory begins at ${start}, inside an entry that ends at ${from}`);
  const all = start >= size - last ? tail.subarray(start - (size - last)) : await read(start, size - start);
  walk(all, said);
  return { start, end, tail: all };
}

/** The last end record whose comment reaches to the end of the archive exactly. */
function findEnd(tail: Buffer): number {
  for (let at = tail.length - END_BYTES; at >= 0; at -= 1) {
    const found = tail.readUInt32LE(at) === SIGNATURE.end;
    if (found && at + END_BYTES + tail.readUInt16LE(at + 20) === tail.length) return at;
  }
  throw invalid('zip archive is cut short, or other bytes follow it: no directory ends at its end');
}

/**
 * What the end record says, or the 64-bit one where fields are full, and where the directory must end. Info-ZIP, which reads from
 * a pipe, writes the 64-bit one although no field is full: then both must say the same.
 */
function saidAt(tail: Buffer, at: number, base: number): Said & { until: number } {
  const said = {
    disks: tail.readUInt16LE(at + 4) | tail.readUInt16LE(at + 6),
    records: tail.readUInt16LE(at + 10),
    length: tail.readUInt32LE(at + 12),
    offset: tail.readUInt32LE(at + 16),
  };
  const onDisk = tail.readUInt16LE(at + 8);
  const full =
    said.disks === 0xffff ||
    said.records === 0xffff ||
    said.length === 0xffffffff ||
    said.offset === 0xffffffff;
  if (!full) {
    if (onDisk !== said.records)
      throw invalid(`zip end record counts ${said.records} entries and ${onDisk} on its only volume`);
    return { ...said, until: needlessly64(tail, at, base, said) ?? base + at };
  }
  const record = locate64(tail, at, base);
  return { ...said64(tail, record), until: base + record };
}

/** Offset of a 64-bit end record that stands between directory and end record, and says nothing else than that; absent: none. */
function needlessly64(tail: Buffer, end: number, base: number, said: Said): number | undefined {
  const gap = base + end - said.offset - said.length;
  if (
    gap !== END64_BYTES + LOCATOR64_BYTES ||
    tail.readUInt32LE(end - LOCATOR64_BYTES) !== SIGNATURE.locator64
  )
    return undefined;
  const record = locate64(tail, end, base);
  const other = said64(tail, record);
  for (const field of ['disks', 'records', 'length', 'offset'] as const)
    if (other[field] !== said[field])
      throw invalid(
        `zip end record says ${said[field]} for ${field}, the 64-bit one before it says ${other[field]}`,
      );
  return base + record;
}

/** The 64-bit end record, which must lie directly before its locator, as all known writers put it. */
function locate64(tail: Buffer, end: number, base: number): number {
  const locator = end - LOCATOR64_BYTES;
  if (locator < 0 || tail.readUInt32LE(locator) !== SIGNATURE.locator64)
    throw invalid('zip end record refers to a 64-bit one, but there is no locator of it');
  const record = locator - END64_BYTES;
  const offset = number64(tail, locator + 8);
  if (record < 0 || offset !== base + record || tail.readUInt32LE(record) !== SIGNATURE.end64)
    throw invalid(`zip locator says ${offset} for the 64-bit end record, which must be at ${base + record}`);
  return record;
}

function said64(tail: Buffer, at: number): Said {
  const records = number64(tail, at + 32);
  if (number64(tail, at + 24) !== records)
    throw invalid(`zip 64-bit end record counts ${records} entries and others on its only volume`);
  return {
    disks: tail.readUInt32LE(at + 16) | tail.readUInt32LE(at + 20),
    records,
    length: number64(tail, at + 40),
    offset: number64(tail, at + 48),
  };
}

/** A 64-bit number. @throws {@link FailureType} `ImageInvalid` beyond what a file can have */
export function number64(bytes: Buffer, at: number): number {
  const value = Number(bytes.readBigUInt64LE(at));
  if (!Number.isSafeInteger(value)) throw invalid(`zip archive holds the number ${value}`);
  return value;
}

/** The records must fill the directory exactly: their parser takes their lengths on trust. */
function walk(bytes: Buffer, { records, length }: Said): void {
  let at = 0;
  for (let index = 0; index < records; index += 1) {
    if (at + RECORD_BYTES > length || bytes.readUInt32LE(at) !== SIGNATURE.directory)
      throw invalid(`zip directory has no record number ${index + 1} of ${records}`);
    const lengths = [28, 30, 32].map((field) => bytes.readUInt16LE(at + field));
    at += lengths.reduce((sum, field) => sum + field, RECORD_BYTES);
  }
  if (at !== length) throw invalid(`zip directory has ${length} bytes, its ${records} records have ${at}`);
}
