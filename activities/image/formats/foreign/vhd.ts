import { hostile, invalid, unsupported } from '../../refusals.js';
import type { ImageSource, SourceFacts } from '../../source/types.js';
import { assertInside, createImageBytes, isPowerOfTwo, readU64, type ImageBytes } from './image-bytes.js';
import { refuseKnownEnd } from './known-end.js';
import type { ForeignImage } from './types.js';

const SECTOR = 512;
/** What a VHD ends with, and a dynamic one begins with too. */
export const FOOTER_BYTES = 512;
const COOKIE = 'conectix';
const DYNAMIC_COOKIE = 'cxsparse';
const DYNAMIC_HEADER_BYTES = 1024;
const FIXED = 2;
const DYNAMIC = 3;
const DIFFERENCING = 4;
/**
 * Programs whose disks are as large as their geometry; of all others the footer's size counts, for a geometry seldom comes out even
 * (`vpc_ignore_current_size` in `block/vpc.c` of QEMU 10; before, QEMU listed the others, and cut off the disks of Azure and VirtualBox).
 */
const CHS_COUNTS = ['vpc ', 'qemu'];
/** The largest geometry: from here on it says nothing. */
const MAX_GEOMETRY = 65_535 * 16 * 255;
/** 2040 GiB: what a table of 2 MiB blocks reaches. */
const MAX_SECTORS = 0xff00_0000;
const MAX_TABLE_BYTES = 64 * 1024 * 1024;
const MAX_BLOCK_BYTES = 256 * 1024 * 1024;

/** The footer (Microsoft, "Virtual Hard Disk Image Format Specification"), its checksum being right. */
interface Footer {
  readonly type: number;
  readonly dataOffset: bigint;
  readonly currentSize: number;
  readonly virtualSize: number;
  /** What that is taken from. */
  readonly sizeBy: 'current_size' | 'chs';
}

/**
 * A dynamic VHD, which begins with a copy of its footer.
 * @throws {@link FailureType} `ImageHostile`, `ImageInvalid`, `UnsupportedFormat`
 */
export async function parseDynamicVhd(bytes: ImageBytes): Promise<ForeignImage> {
  const footer = readFooter(await bytes.at(0, FOOTER_BYTES, 'VHD footer'));
  if (!footer) throw invalid('VHD footer at 0 is damaged: its checksum is wrong');
  if (footer.type === DIFFERENCING)
    throw hostile(
      'VHD is a differencing disk: part of its data is in a parent file; merge it with Merge-VHD',
    );
  if (footer.type !== DYNAMIC)
    throw invalid(`VHD has a footer of type ${footer.type} at its start, ${DYNAMIC} (dynamic) expected`);
  const { virtualSize } = footer;
  if (virtualSize > MAX_SECTORS * SECTOR)
    throw invalid(`VHD disk has ${virtualSize} bytes, the format's limit is ${MAX_SECTORS * SECTOR}`);
  await checkDynamicHeader(footer, bytes);
  return { format: 'vhd', subformat: 'dynamic', virtualSize, options: { force_size_calc: footer.sizeBy } };
}

/** A VHD whose disk lies in the file as it is, from its start. */
export type FixedVhd = ForeignImage & { readonly rawLength: number };

/**
 * A file that looks raw and ends with the footer of a fixed VHD is one: its disk is what precedes the footer. Asks for the last
 * 512 bytes; `undefined` where it is none, or {@link isEndUnseen}.
 * @throws {@link FailureType} `UnsupportedFormat` for what shows by its end as well, as an Apple disk image does
 */
export async function findFixedVhd(source: ImageSource, facts: SourceFacts): Promise<FixedVhd | undefined> {
  const fileBytes = facts.validators.length;
  if (fileBytes === undefined || fileBytes < FOOTER_BYTES || isEndUnseen(facts)) return undefined;
  const at = fileBytes - FOOTER_BYTES;
  const end = await createImageBytes(source, facts).at(at, FOOTER_BYTES, 'VHD footer');
  refuseKnownEnd(end);
  return readFixedVhd(end, at);
}

/** Whether nobody can tell before it was read what a file ends with: the source has no ranges, or no length. */
export function isEndUnseen({ validators: { length }, ranges, head }: SourceFacts): boolean {
  return length === undefined || (!ranges && length > head.length);
}

/** Whether a file of so many bytes may be a fixed VHD: whole sectors before its footer. */
export function mayBeFixedVhd(fileBytes: number): boolean {
  return fileBytes > FOOTER_BYTES && fileBytes % SECTOR === 0;
}

/** The fixed VHD that the last {@link FOOTER_BYTES} of a file, which begin at `at`, make of it; `undefined` where they make none. */
export function readFixedVhd(bytes: Buffer, at: number): FixedVhd | undefined {
  if (at <= 0 || at % SECTOR !== 0) return undefined;
  const footer = readFooter(bytes);
  if (!footer || footer.type !== FIXED || footer.currentSize !== at) return undefined;
  const rawLength = footer.virtualSize > 0 ? Math.min(at, footer.virtualSize) : at;
  return { format: 'vhd', subformat: 'fixed', virtualSize: rawLength, allocatedBytes: rawLength, rawLength };
}

/** The footer; `undefined` where the bytes are none, or damaged. */
function readFooter(bytes: Buffer): Footer | undefined {
  if (bytes.toString('latin1', 0, 8) !== COOKIE) return undefined;
  if (checksum(bytes, 64) !== bytes.readUInt32BE(64)) return undefined;
  const currentSize = readU64(bytes, 48, 'VHD current size', 'BE');
  const geometry = bytes.readUInt16BE(56) * bytes.readUInt8(58) * bytes.readUInt8(59);
  const sized = !CHS_COUNTS.includes(bytes.toString('latin1', 28, 32)) || geometry === MAX_GEOMETRY;
  return {
    type: bytes.readUInt32BE(60),
    dataOffset: bytes.readBigUInt64BE(16),
    currentSize,
    sizeBy: sized ? 'current_size' : 'chs',
    virtualSize: (sized ? Math.floor(currentSize / SECTOR) : geometry) * SECTOR,
  };
}

/** One's complement of the sum of all bytes but the checksum's own. */
function checksum(bytes: Buffer, at: number): number {
  const sum = bytes.reduce((all, byte) => all + byte, 0);
  const own = bytes.subarray(at, at + 4).reduce((all, byte) => all + byte, 0);
  return ~(sum - own) >>> 0;
}

/** Bounds the table that QEMU allocates and reads when it opens the image. */
async function checkDynamicHeader({ dataOffset, virtualSize }: Footer, bytes: ImageBytes): Promise<void> {
  if (dataOffset > BigInt(Number.MAX_SAFE_INTEGER)) throw hostile(`VHD dynamic header is at ${dataOffset}`);
  const header = await bytes.at(Number(dataOffset), DYNAMIC_HEADER_BYTES, 'VHD dynamic header');
  if (header.toString('latin1', 0, 8) !== DYNAMIC_COOKIE || checksum(header, 36) !== header.readUInt32BE(36))
    throw invalid(`VHD dynamic header at ${dataOffset} is damaged: its checksum is wrong`);
  const version = header.readUInt32BE(24);
  if (version !== 0x0001_0000)
    throw unsupported(`VHD dynamic header version ${version} is not supported: 65536 is`);
  const blockBytes = header.readUInt32BE(32);
  if (blockBytes < SECTOR || !isPowerOfTwo(blockBytes))
    throw invalid(`VHD block size ${blockBytes} is no power of 2`);
  if (blockBytes > MAX_BLOCK_BYTES)
    throw hostile(`VHD block size is ${blockBytes} bytes, the limit is ${MAX_BLOCK_BYTES}`);
  const entries = header.readUInt32BE(28);
  if (entries * 4 > MAX_TABLE_BYTES)
    throw hostile(`VHD block table has ${entries * 4} bytes, the limit is ${MAX_TABLE_BYTES}`);
  if (entries * blockBytes < virtualSize)
    throw invalid(`VHD has ${entries} blocks of ${blockBytes} bytes, its disk ${virtualSize} bytes`);
  const table = readU64(header, 16, 'VHD block table offset', 'BE');
  assertInside('VHD block table', table + entries * 4, bytes.fileBytes);
}
