import { crc32 } from 'node:zlib';
import { invalid } from '../refusals.js';
import type { ImageSource } from '../source/types.js';

/** Stream header and footer (xz file format 1.2.1, §2.1.1 and §2.1.2). */
const HEADER_BYTES = 12;
const FOOTER_BYTES = 12;
const FOOTER_MAGIC = Buffer.from('YZ', 'latin1');
/** Bytes of an index that are looked at: 24 MiB blocks of 100 TiB fit. */
const MAX_INDEX_BYTES = 64 * 1024 * 1024;
const MAX_BLOCKS = 4_000_000;
const MAX_STREAMS = 10_000;

/** One block of an xz file. Offsets and sizes are bytes. */
export interface XzBlock {
  /** Where the block begins in the file, and in what it decompresses to. */
  readonly inner: number;
  readonly outer: number;
  /** With its header and check, without padding. */
  readonly unpaddedSize: number;
  readonly uncompressedSize: number;
  /** The two bytes of the stream's flags: which check the block has. */
  readonly flags: Buffer;
}

/** What the indexes of an xz file, read from its end, say. */
export interface XzIndex {
  readonly blocks: readonly XzBlock[];
  readonly uncompressedSize: number;
}

/**
 * Reads the indexes of all streams, from the last to the first, by a few small ranges.
 * @throws {@link FailureType} `ImageInvalid` where the file does not end as an xz file does
 */
export async function readXzIndex(source: ImageSource, fileBytes: number): Promise<XzIndex> {
  const streams: Omit<XzBlock, 'outer'>[][] = [];
  let end = fileBytes;
  while (end > 0) {
    if (streams.length === MAX_STREAMS) throw invalid(`xz file has more than ${MAX_STREAMS} streams`);
    end = await skipPadding(source, end);
    const stream = await readStream(source, end);
    streams.unshift(stream.blocks);
    end = stream.start;
  }
  let outer = 0;
  const blocks = streams.flat().map((block): XzBlock => {
    const placed = { ...block, outer };
    outer += block.uncompressedSize;
    return placed;
  });
  return { blocks, uncompressedSize: outer };
}

const MOST_PEEK = 4 * 1024 * 1024;

/** Streams are padded with zeros to multiples of four bytes (§2.2). */
async function skipPadding(source: ImageSource, end: number): Promise<number> {
  let bytes = Buffer.alloc(Math.min(4096, end));
  for (let at = end; at >= HEADER_BYTES + FOOTER_BYTES;) {
    const from = Math.max(0, at - bytes.length);
    bytes = bytes.subarray(0, at - from);
    await source.readInto(from, bytes);
    const last = bytes.findLastIndex((byte) => byte !== 0);
    if (last < 0) {
      at = from;
      // padding up to the end of a device is long: not a request for each page of it
      if (bytes.length < MOST_PEEK) bytes = Buffer.alloc(Math.min(bytes.length * 4, MOST_PEEK));
      continue;
    }
    const stop = from + Math.ceil((last + 1) / 4) * 4;
    if ((end - stop) % 4 !== 0 || stop > end) break;
    return stop;
  }
  throw invalid('xz file does not end with a stream footer: it is cut short, or something follows it');
}

async function readStream(
  source: ImageSource,
  end: number,
): Promise<{ blocks: Omit<XzBlock, 'outer'>[]; start: number }> {
  const footer = Buffer.alloc(FOOTER_BYTES);
  if (end < HEADER_BYTES + FOOTER_BYTES) throw invalid('xz file is cut short');
  await source.readInto(end - FOOTER_BYTES, footer);
  if (!footer.subarray(10).equals(FOOTER_MAGIC) || crc32(footer.subarray(4, 10)) !== footer.readUInt32LE(0))
    throw invalid('xz file does not end with a stream footer: it is cut short, or something follows it');
  const indexBytes = (footer.readUInt32LE(4) + 1) * 4;
  if (indexBytes > MAX_INDEX_BYTES || indexBytes > end - HEADER_BYTES - FOOTER_BYTES)
    throw invalid(`xz index has ${indexBytes} bytes, the file ${end} before its end`);
  const index = Buffer.alloc(indexBytes);
  const indexStart = end - FOOTER_BYTES - indexBytes;
  await source.readInto(indexStart, index);
  const records = parseIndex(index);
  const total = records.reduce((sum, { unpaddedSize }) => sum + padded(unpaddedSize), 0);
  const start = indexStart - total - HEADER_BYTES;
  if (start < 0) throw invalid(`xz index counts ${total} bytes of blocks, the file has ${indexStart}`);
  const header = Buffer.alloc(HEADER_BYTES);
  await source.readInto(start, header);
  const flags = header.subarray(6, 8);
  if (!flags.equals(footer.subarray(8, 10)) || crc32(flags) !== header.readUInt32LE(8))
    throw invalid('xz stream header and footer do not agree');
  let inner = start + HEADER_BYTES;
  const blocks = records.map((record) => {
    const block = { ...record, inner, flags };
    inner += padded(record.unpaddedSize);
    return block;
  });
  return { blocks, start };
}

/** Index (§4): indicator, number of records, pairs of sizes, padding, CRC-32. */
function parseIndex(index: Buffer): { unpaddedSize: number; uncompressedSize: number }[] {
  if (index[0] !== 0 || crc32(index.subarray(0, -4)) !== index.readUInt32LE(index.length - 4))
    throw invalid('xz index is damaged');
  const cursor = { at: 1 };
  const count = readInteger(index, cursor);
  if (count > MAX_BLOCKS || count * 2 > index.length) throw invalid(`xz index names ${count} blocks`);
  return Array.from({ length: count }, () => {
    const unpaddedSize = readInteger(index, cursor);
    const uncompressedSize = readInteger(index, cursor);
    if (unpaddedSize < 5) throw invalid(`xz index names a block of ${unpaddedSize} bytes`);
    return { unpaddedSize, uncompressedSize };
  });
}

/** Multibyte integer (§1.2), seven bits a byte; sizes beyond 2^53 are nobody's. */
function readInteger(bytes: Buffer, cursor: { at: number }): number {
  let value = 0;
  for (let factor = 1; ; factor *= 128) {
    const byte = bytes[cursor.at];
    if (byte === undefined || factor > 2 ** 49) throw invalid('xz index is damaged');
    cursor.at += 1;
    value += (byte & 0x7f) * factor;
    if (!(byte & 0x80)) return value;
  }
}

/** Blocks are padded to multiples of four bytes. */
export function padded(size: number): number {
  return Math.ceil(size / 4) * 4;
}
