import { invalid } from '../refusals.js';
import type { ArchiveInput } from './archive-input.js';

/** Everything in a tar archive is a multiple of this. In bytes. */
export const BLOCK = 512;

const ZEROS = Buffer.alloc(BLOCK);

/** Where fields lie: POSIX.1-2017 `pax`, "ustar Interchange Format". */
const FIELDS = {
  name: [0, 100],
  mode: [100, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  link: [157, 100],
  prefix: [345, 155],
} as const;
const TYPEFLAG = 156;
const MAGIC = 257;
/** `star` ends its headers with this, and its prefix before two times of its own. */
const STAR_TRAILER = { at: 508, bytes: Buffer.from('tar\0', 'latin1') };
const STAR_PREFIX_BYTES = 131;

/** One header block, as it is written; what headers before it say in its place is not applied yet. */
export interface TarHeader {
  /** Offset of the block in the archive. */
  readonly at: number;
  readonly name: Buffer;
  readonly link: Buffer;
  /** Permission bits, set-user-ID, set-group-ID and sticky bit. */
  readonly mode: number;
  /** Bytes that follow, without padding. */
  readonly size: number;
  /** In seconds since the epoch. */
  readonly mtime: number;
  readonly typeflag: string;
  /** Magic of GNU tar before POSIX: the space of the prefix holds a sparse map. */
  readonly gnu: boolean;
  readonly block: Buffer;
}

/** Reads a header block; `undefined` for a block of zeros. @throws {@link FailureType} `ImageInvalid` */
export function parseTarHeader(block: Buffer, at: number): TarHeader | undefined {
  if (block.equals(ZEROS)) return undefined;
  checkSum(block, at);
  const magic = block.toString('latin1', MAGIC, MAGIC + 6);
  return {
    at,
    name: nameOf(block, magic),
    link: text(block, FIELDS.link),
    mode: number(block, FIELDS.mode, `mode of the tar header at ${at}`) & 0o7777,
    size: sizeOf(block, FIELDS.size, `size in the tar header at ${at}`),
    mtime: number(block, FIELDS.mtime, `time in the tar header at ${at}`),
    typeflag: String.fromCharCode(block[TYPEFLAG] ?? 0),
    gnu: magic === 'ustar ',
    block,
  };
}

/**
 * Whether these first bytes may be those of an archive although they hold no magic: a header from before POSIX, or the two blocks
 * of zeros of an archive without an entry.
 */
export function beginsTar(head: Buffer): boolean {
  if (head.length < 2 * BLOCK) return false;
  try {
    return parseTarHeader(head.subarray(0, BLOCK), 0) !== undefined || head.every((byte) => byte === 0);
  } catch {
    return false;
  }
}

/** A check sum in octal that is not 0, which a boot sector without such a field might have by chance. */
const WRITTEN_SUM = /^[ 0]*[1-7][0-7]*[ \0]+$/;

/** Whether a file whose kind nobody knows begins with the header of an archive from before POSIX: a name, and the right check sum. */
export function isOldTar(head: Buffer): boolean {
  const [start, length] = FIELDS.checksum;
  const named = (head[0] ?? 0) !== 0;
  return named && WRITTEN_SUM.test(head.toString('latin1', start, start + length)) && beginsTar(head);
}

/** Unsigned sum of the block's bytes, the field itself as spaces; old programs added signed ones. */
function checkSum(block: Buffer, at: number): void {
  const [start, length] = FIELDS.checksum;
  let unsigned = 32 * length;
  let signed = unsigned;
  for (let index = 0; index < BLOCK; index += 1) {
    if (index === start) index += length;
    const byte = block[index] ?? 0;
    unsigned += byte;
    signed += byte < 128 ? byte : byte - 256;
  }
  const stored = number(block, FIELDS.checksum, `checksum of the tar header at ${at}`);
  if (stored === unsigned || stored === signed) return;
  const what = at === 0 ? 'not a tar archive: its first header' : `tar header at ${at}`;
  throw invalid(`${what} has checksum ${stored}, its bytes add up to ${unsigned}`);
}

/** The prefix is POSIX's only: GNU's own format has other things there, and archives before POSIX anything. */
function nameOf(block: Buffer, magic: string): Buffer {
  const name = text(block, FIELDS.name);
  if (magic !== 'ustar\0') return name;
  const { at, bytes } = STAR_TRAILER;
  const star = block.subarray(at, at + bytes.length).equals(bytes);
  const prefix = text(block, [FIELDS.prefix[0], star ? STAR_PREFIX_BYTES : FIELDS.prefix[1]]);
  return prefix.length === 0 ? name : Buffer.concat([prefix, Buffer.from('/'), name]);
}

/** A copy, so that a name does not keep the whole piece alive that it came in. */
function text(block: Buffer, [start, length]: readonly [number, number]): Buffer {
  return untilNul(Buffer.from(block.subarray(start, start + length)));
}

/** What comes before the first NUL. */
export function untilNul(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0);
  return end === -1 ? bytes : bytes.subarray(0, end);
}

/** A number that counts bytes. @throws {@link FailureType} `ImageInvalid` for one below 0 */
export function sizeOf(block: Buffer, field: readonly [start: number, length: number], what: string): number {
  const value = number(block, field, what);
  if (value < 0) throw invalid(`${what} is ${value}`);
  return value;
}

/** Octal digits, or, where the first bit is set, GNU's base 256: a big-endian two's complement without that bit. */
function number(block: Buffer, [start, length]: readonly [number, number], what: string): number {
  const field = block.subarray(start, start + length);
  const binary = ((field[0] ?? 0) & 0x80) !== 0;
  const value = binary
    ? Number(BigInt.asIntN(8 * length - 1, BigInt(`0x${field.toString('hex')}`)))
    : octal(field);
  if (Number.isSafeInteger(value)) return value;
  throw invalid(`${what} is no number of at most ${Number.MAX_SAFE_INTEGER}`);
}

function octal(field: Buffer): number {
  const digits = untilNul(field).toString('latin1').trim();
  return /^[0-7]*$/.test(digits) ? parseInt(`0${digits}`, 8) : NaN;
}

/** The archive ends where more of it must come. */
export function cutShort({ position }: ArchiveInput, name: string): Error {
  return invalid(`tar archive is cut short: it ends after ${position} bytes, inside ${name}`);
}
