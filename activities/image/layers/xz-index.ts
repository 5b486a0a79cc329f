import { crc32 } from 'node:zlib';
import { invalid } from '../refusals.js';
import type { ImageSource } from '../source/types.js';
import { createTail, MOST_BYTES, type Tail } from './xz-tail.js';

/** Stream header and footer (xz file format 1.2.1, §2.1.1 and §2.1.2). */
const HEADER_BYTES = 12;
const FOOTER_BYTES = 12;
const FOOTER_MAGIC = Buffer.from('YZ', 'latin1');
/** Bytes of all indexes together that are looked at: 24 MiB blocks of 100 TiB fit. */
const MAX_INDEX_BYTES = 64 * 1024 * 1024;
/** Indicator, no records, padding, CRC-32. */
const SMALLEST_INDEX = 8;
const CRC_BYTES = 4;
/** An index is read, and forgotten, piece by piece. */
const INDEX_PIECE = MOST_BYTES;
/** Blocks of all streams together that are remembered, in {@link FIELDS} numbers each: 10 MiB. */
const MOST_KEPT = 256 * 1024;
/** Streams whose indexes are looked at. */
const MAX_STREAMS = 10_000;
/**
 * What the walk from index to index may cost, and a part of what it has passed: else the file is sooner read than its indexes. Streams of
 * 1 MiB are worth it: with their indexes they are decoded on all cores, and entered at any of them.
 */
const WALK = { bytes: 8 * 1024 * 1024, part: 1 / 4 };

/** One block of an xz file. Offsets and sizes are bytes. */
export interface XzBlock {
  /** Where the block begins in the file, and in what it decompresses to. */
  readonly inner: number;
  readonly outer: number;
  /** With its header and check, without padding. */
  readonly unpaddedSize: number;
  readonly uncompressedSize: number;
  /** The two bytes of the stream's flags, the first one above: which check the block has. */
  readonly flags: number;
}

/** The blocks of an xz file in their order, made when they are asked for. */
export interface XzBlocks {
  readonly count: number;
  /** The block of an index below `count`. */
  at(index: number): XzBlock;
}

/** What the indexes of an xz file, read from its end, say. */
export interface XzIndex {
  /** Absent where there are more than {@link MOST_KEPT}: such a file is read in order. */
  readonly blocks?: XzBlocks;
  /** Absent too where the file is of so many streams, or such small ones, that their indexes are not worth their reading. */
  readonly uncompressedSize?: number;
}

/**
 * Reads the indexes of all streams, from the last to the first, by few ranges, as long as these are a small part of the file. Two bytes of a file can name a block: what
 * is remembered of them is bounded, and lies outside the heap.
 * @throws {@link FailureType} `ImageInvalid` where the file does not end as an xz file does
 */
export async function readXzIndex(source: ImageSource, fileBytes: number): Promise<XzIndex> {
  const streams: XzStream[] = [];
  const tail = createTail(source, fileBytes);
  let padding = 0;
  let left = { indexBytes: MAX_INDEX_BYTES, blocks: MOST_KEPT };
  let uncompressedSize = 0;
  for (let end = fileBytes; end > 0;) {
    if (streams.length === MAX_STREAMS) return {};
    if (tail.cost - padding > WALK.bytes + (fileBytes - end) * WALK.part) return {};
    const padded = end;
    end = await skipPadding(tail, end);
    padding += padded - end;
    const stream = await readStream({ source, tail }, end, left);
    const { indexBytes, records } = stream;
    left = { indexBytes: left.indexBytes - indexBytes, blocks: left.blocks - records.count };
    // of no use any more
    if (left.blocks < 0) for (const { records: kept } of streams) delete kept.sizes;
    streams.push(stream);
    uncompressedSize += records.plain;
    end = stream.start;
  }
  if (!Number.isSafeInteger(uncompressedSize))
    throw invalid(`xz file decompresses to ${uncompressedSize} bytes`);
  return left.blocks < 0
    ? { uncompressedSize }
    : { uncompressedSize, blocks: placeBlocks(streams.reverse(), MOST_KEPT - left.blocks) };
}

/** `inner`, `outer`, `unpaddedSize`, `uncompressedSize`, `flags`. */
const FIELDS = 5;

function placeBlocks(streams: readonly XzStream[], count: number): XzBlocks {
  const table = new Float64Array(count * FIELDS);
  let at = 0;
  let outer = 0;
  for (const { start, flags, records } of streams) {
    const { sizes = new Float64Array(0) } = records;
    let inner = start + HEADER_BYTES;
    for (let index = 0; index < sizes.length; index += 2) {
      const [unpaddedSize = 0, uncompressedSize = 0] = sizes.subarray(index, index + 2);
      table.set([inner, outer, unpaddedSize, uncompressedSize, flags], at);
      at += FIELDS;
      inner += padded(unpaddedSize);
      outer += uncompressedSize;
    }
  }
  return {
    count,
    at(index) {
      const fields = table.subarray(index * FIELDS, (index + 1) * FIELDS);
      const [inner = 0, start = 0, unpaddedSize = 0, uncompressedSize = 0, flags = 0] = fields;
      return { inner, outer: start, unpaddedSize, uncompressedSize, flags };
    },
  };
}

/** Streams are padded with zeros to multiples of four bytes (§2.2). */
async function skipPadding(tail: Tail, end: number): Promise<number> {
  for (let at = end; at >= HEADER_BYTES + FOOTER_BYTES;) {
    const bytes = await tail.upTo(at);
    const from = at - bytes.length;
    const last = bytes.findLastIndex((byte) => byte !== 0);
    if (last < 0) {
      at = from;
      continue;
    }
    const stop = from + Math.ceil((last + 1) / 4) * 4;
    if ((end - stop) % 4 !== 0 || stop > end) break;
    return stop;
  }
  throw invalid('xz file does not end with a stream footer: it is cut short, or something follows it');
}

/** One stream of the file, and what its index says. */
interface XzStream {
  readonly start: number;
  readonly flags: number;
  readonly indexBytes: number;
  readonly records: XzRecords;
}

/** What one index says. */
interface XzRecords {
  readonly count: number;
  /** Unpadded and uncompressed sizes in turn; absent where there are too many to be kept. */
  sizes?: Float64Array;
  /** Bytes of the blocks in the file, padding included, and of what they decompress to. */
  readonly stored: number;
  readonly plain: number;
}

/** What indexes may still take. */
interface Left {
  readonly indexBytes: number;
  readonly blocks: number;
}

/** Where the streams are read from. */
interface Origin {
  readonly source: ImageSource;
  readonly tail: Tail;
}

async function readStream({ source, tail }: Origin, end: number, left: Left): Promise<XzStream> {
  if (end < HEADER_BYTES + SMALLEST_INDEX + FOOTER_BYTES) throw invalid('xz file is cut short');
  const last = Buffer.from(await tail.take(end - FOOTER_BYTES - CRC_BYTES, end));
  const footer = last.subarray(CRC_BYTES);
  if (!footer.subarray(10).equals(FOOTER_MAGIC) || crc32(footer.subarray(4, 10)) !== footer.readUInt32LE(0))
    throw invalid('xz file does not end with a stream footer: it is cut short, or something follows it');
  const indexBytes = (footer.readUInt32LE(4) + 1) * 4;
  if (indexBytes > left.indexBytes || indexBytes > end - HEADER_BYTES - FOOTER_BYTES)
    throw invalid(
      `xz index has ${indexBytes} bytes, ${left.indexBytes} are left for it, the file has ${end} before its end`,
    );
  const indexStart = end - FOOTER_BYTES - indexBytes;
  const indexEnd = end - FOOTER_BYTES - CRC_BYTES;
  const bytes =
    indexBytes > MOST_BYTES
      ? piecesOf(source, indexStart, indexBytes - CRC_BYTES)
      : [await tail.take(indexStart, indexEnd)];
  const records = await readRecords(bytes, { indexBytes, crc: last.readUInt32LE(0), room: left.blocks });
  const start = indexStart - records.stored - HEADER_BYTES;
  if (start < 0)
    throw invalid(`xz index counts ${records.stored} bytes of blocks, the file has ${indexStart}`);
  const header = await tail.take(start, start + HEADER_BYTES);
  const flags = header.subarray(6, 8);
  if (!flags.equals(footer.subarray(8, 10)) || crc32(flags) !== header.readUInt32LE(8))
    throw invalid('xz stream header and footer do not agree');
  return { start, flags: flags.readUInt16BE(), indexBytes, records };
}

/** Bytes of the file in pieces of one buffer: each is gone when the next one comes. */
async function* piecesOf(source: ImageSource, start: number, length: number): AsyncGenerator<Buffer> {
  const buffer = Buffer.alloc(Math.min(INDEX_PIECE, length));
  for (let done = 0; done < length; done += buffer.length) {
    const piece = buffer.subarray(0, length - done);
    await source.readInto(start + done, piece);
    yield piece;
  }
}

/** Index (§4): indicator, number of records, pairs of sizes, padding, CRC-32. `room` is how many records may be kept. */
async function readRecords(
  pieces: AsyncIterable<Buffer> | Iterable<Buffer>,
  { indexBytes, crc, room }: { readonly indexBytes: number; readonly crc: number; readonly room: number },
): Promise<XzRecords> {
  let [indicator, count, seen, stored, plain, padding] = [-1, -1, 0, 0, 0, 0];
  let sizes: Float64Array | undefined;

  function begin(records: number): void {
    if (records * 2 > indexBytes) throw invalid(`xz index names ${records} blocks`);
    count = records;
    if (count <= room) sizes = new Float64Array(count * 2);
  }

  function add(size: number): void {
    if (seen % 2 === 0 && size < 5) throw invalid(`xz index names a block of ${size} bytes`);
    if (seen % 2 === 0) stored += padded(size);
    else plain += size;
    if (sizes) sizes[seen] = size;
    seen += 1;
  }

  const parse = createIntegers((value) => {
    // padding looks like zeros
    if (indicator < 0) indicator = value;
    else if (count < 0) begin(value);
    else if (seen < count * 2) add(value);
    else if (value === 0 && padding < 3) padding += 1;
    else throw invalid('xz index is damaged');
  });
  let sum = 0;
  for await (const piece of pieces) {
    sum = crc32(piece, sum);
    parse(piece);
  }
  if (indicator !== 0 || sum !== crc || seen !== count * 2) throw invalid('xz index is damaged');
  return { count, stored, plain, ...(sizes ? { sizes } : {}) };
}

/** Takes bytes as they come, gives multibyte integers (§1.2), seven bits a byte; sizes beyond 2^53 are nobody's. */
function createIntegers(take: (value: number) => void): (bytes: Buffer) => void {
  let value = 0;
  let factor = 1;
  return (bytes) => {
    for (const byte of bytes) {
      if (factor > 2 ** 49) throw invalid('xz index is damaged');
      value += (byte & 0x7f) * factor;
      factor *= 128;
      if (byte & 0x80) continue;
      take(value);
      value = 0;
      factor = 1;
    }
  };
}

/** Blocks are padded to multiples of four bytes. */
export function padded(size: number): number {
  return Math.ceil(size / 4) * 4;
}
