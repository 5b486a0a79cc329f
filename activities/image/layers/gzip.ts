import { constants, crc32, createInflateRaw } from 'node:zlib';
import { invalid } from '../refusals.js';
import type { RestartPoint } from '../source/types.js';
import { watchEmptyPieces } from './empty-pieces.js';
import { createFeed, type Feed } from './feed.js';
import { decodeMember, decoderOptions } from './member.js';

const MAGIC = Buffer.from([0x1f, 0x8b]);
/** Flags of a member's header (RFC 1952 §2.3.1). */
const FLAGS = { headerCrc: 2, extra: 4, name: 8, comment: 16, reserved: 0xe0 };
/** A name or comment longer than this is no name. */
const MAX_TEXT = 64 * 1024;

/** How to decompress. */
export interface DecompressOptions {
  /** Where to begin: both offsets of the first byte of `source`. @default the start */
  readonly from?: RestartPoint;
  /** Told each place where a later attempt can begin. */
  readonly onRestartPoint?: (point: RestartPoint) => void;
}

/**
 * Decompresses gzip, all members of it, each checked by CRC-32 and size. Zero padding after the last member is fine (tape blocks),
 * anything else after it is refused.
 * @throws {@link FailureType} `ImageInvalid` where the stream is damaged or cut short, or goes on after its end;
 * `ImageHostile` where it has members without content and without end
 */
export async function* gunzip(
  source: AsyncIterable<Buffer>,
  { from = { inner: 0, outer: 0 }, onRestartPoint }: DecompressOptions = {},
): AsyncGenerator<Buffer> {
  const feed = createFeed(source, from.inner);
  const watchEmpty = watchEmptyPieces('gzip stream');
  let outer = from.outer;
  try {
    while (await readHeader(feed)) {
      const before = outer;
      const sums = { crc: 0, size: 0 };
      for await (const chunk of inflateMember(feed)) {
        sums.crc = crc32(chunk, sums.crc);
        sums.size = (sums.size + chunk.length) % 2 ** 32;
        outer += chunk.length;
        yield chunk;
      }
      await readTrailer(feed, sums);
      watchEmpty(outer - before);
      onRestartPoint?.({ inner: feed.position, outer });
    }
  } finally {
    await feed.close();
  }
}

async function* inflateMember(feed: Feed): AsyncGenerator<Buffer> {
  const decoder = createInflateRaw(decoderOptions({ finishFlush: constants.Z_FINISH }));
  try {
    yield* decodeMember(feed, decoder);
  } catch (error) {
    throw asInvalid(error);
  }
}

/** The header of the next member; false at the end of the stream. */
async function readHeader(feed: Feed): Promise<boolean> {
  const at = feed.position;
  const head = await feed.take(10);
  if (at > 0 && head.every((byte) => byte === 0)) return refuseRest(feed, at);
  if (!head.subarray(0, 2).equals(MAGIC.subarray(0, head.length)))
    throw invalid(`gzip stream is followed by bytes that are no gzip member, at ${at}`);
  if (head.length < 10) throw cutShort();
  const [, , method, flags = 0] = head;
  if (method !== 8) throw invalid(`gzip member at ${at} has compression method ${method}, only 8 is defined`);
  if (flags & FLAGS.reserved) throw invalid(`gzip member at ${at} has reserved flags set`);
  if (flags & FLAGS.extra) await skip(feed, (await exactly(feed, 2)).readUInt16LE(0));
  if (flags & FLAGS.name) await skipText(feed);
  if (flags & FLAGS.comment) await skipText(feed);
  if (flags & FLAGS.headerCrc) await skip(feed, 2);
  return true;
}

/** Zeros to the end of the stream are padding. */
async function refuseRest(feed: Feed, at: number): Promise<false> {
  for (let chunk = await feed.next(); chunk; chunk = await feed.next())
    if (chunk.some((byte) => byte !== 0))
      throw invalid(`gzip stream is followed by bytes that are no gzip member, after ${at}`);
  return false;
}

async function readTrailer(feed: Feed, { crc, size }: { crc: number; size: number }): Promise<void> {
  const trailer = await exactly(feed, 8);
  if (trailer.readUInt32LE(0) !== crc) throw invalid('gzip stream is damaged: its CRC-32 does not match');
  if (trailer.readUInt32LE(4) !== size)
    throw invalid(
      `gzip stream is damaged: it says ${trailer.readUInt32LE(4)} bytes modulo 2^32, has ${size}`,
    );
}

async function skipText(feed: Feed): Promise<void> {
  for (let skipped = 0; skipped < MAX_TEXT;) {
    const chunk = await feed.next();
    if (!chunk) throw cutShort();
    const end = chunk.indexOf(0);
    if (end >= 0) return feed.unread(chunk.subarray(end + 1));
    skipped += chunk.length;
  }
  throw invalid(`gzip header holds a name of more than ${MAX_TEXT} bytes`);
}

async function skip(feed: Feed, count: number): Promise<void> {
  await exactly(feed, count);
}

async function exactly(feed: Feed, count: number): Promise<Buffer> {
  const bytes = await feed.take(count);
  if (bytes.length < count) throw cutShort();
  return bytes;
}

function cutShort(cause?: unknown): Error {
  return invalid('gzip stream is cut short', cause);
}

/** zlib's own codes mean a bad stream; everything else comes from the source and stays what it is. */
function asInvalid(error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'Z_BUF_ERROR') return cutShort(error);
  if (code?.startsWith('Z_')) return invalid(`gzip stream is damaged (${code})`, error);
  return error;
}
