import { createZstdDecompress } from 'node:zlib';
import { invalid, unsupported } from '../refusals.js';
import { watchEmptyPieces } from './empty-pieces.js';
import { createFeed, type Feed } from './feed.js';
import { gathered } from './gathered.js';
import type { DecompressOptions } from './gzip.js';
import { decodeMember, decoderOptions } from './member.js';

const FRAME_MAGIC = 0xfd2fb528;
/** Sixteen magics of frames that carry no content (RFC 8878 §3.1.2). */
const SKIPPABLE = { magic: 0x184d2a50, mask: 0xfffffff0 };
/** A decoder keeps a window in memory; larger ones (`zstd --long=28` and up) would break the promise of 256 MiB. */
const MAX_WINDOW = 128 * 1024 * 1024;

/**
 * Decompresses zstd, frame by frame; skippable frames (of seekable and of pzstd files) are passed over.
 * @throws {@link FailureType} `ImageInvalid` where the stream is damaged or cut short, or goes on after its end;
 * `UnsupportedFormat` where it needs a dictionary or a window of more than 128 MiB; `ImageHostile` where it has frames without content
 * and without end
 */
export async function* unzstd(
  source: AsyncIterable<Buffer>,
  { from = { inner: 0, outer: 0 }, onRestartPoint }: DecompressOptions = {},
): AsyncGenerator<Buffer> {
  const feed = createFeed(source, from.inner);
  const watchEmpty = watchEmptyPieces('zstd stream');
  let outer = from.outer;
  try {
    for (let magic = await readMagic(feed); magic !== undefined; magic = await readMagic(feed)) {
      if (magic !== FRAME_MAGIC) {
        await skipFrame(feed);
        watchEmpty(0);
        continue;
      }
      const before = outer;
      for await (const chunk of decodeFrame(feed)) {
        outer += chunk.length;
        yield chunk;
      }
      watchEmpty(outer - before);
      onRestartPoint?.({ inner: feed.position, outer });
    }
  } finally {
    await feed.close();
  }
}

async function readMagic(feed: Feed): Promise<number | undefined> {
  const at = feed.position;
  const bytes = await feed.take(4);
  if (bytes.length === 0) return undefined;
  const magic = bytes.length === 4 ? bytes.readUInt32LE(0) : undefined;
  if (magic !== FRAME_MAGIC && (magic === undefined || (magic & SKIPPABLE.mask) >>> 0 !== SKIPPABLE.magic))
    throw invalid(`zstd stream is followed by bytes that are no zstd frame, at ${at}`);
  return magic;
}

async function skipFrame(feed: Feed): Promise<void> {
  const size = (await exactly(feed, 4)).readUInt32LE(0);
  for (let missing = size; missing > 0;) {
    const chunk = await feed.next();
    if (!chunk) throw cutShort();
    if (chunk.length > missing) feed.unread(chunk.subarray(missing));
    missing -= Math.min(missing, chunk.length);
  }
}

/** One frame, of which the magic is read; the decoder gets exactly its bytes, because it would stop at what follows. */
async function* decodeFrame(feed: Feed): AsyncGenerator<Buffer> {
  const frame = createFeed(gathered(frameBytes(feed)));
  try {
    yield* decodeMember(frame, createZstdDecompress(decoderOptions({})));
    if (await frame.next()) throw invalid('zstd stream is damaged: a frame ends before its last block');
  } catch (error) {
    throw asInvalid(error);
  }
}

/** The bytes of one frame: header, blocks, checksum (RFC 8878 §3.1.1). */
async function* frameBytes(feed: Feed): AsyncGenerator<Buffer> {
  const [descriptor = 0] = await exactly(feed, 1);
  const single = ((descriptor >> 5) & 1) === 1;
  const contentBytes = descriptor >> 6 === 0 ? (single ? 1 : 0) : 2 ** (descriptor >> 6);
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const rest = await exactly(feed, (single ? 0 : 1) + dictionaryBytes + contentBytes);
  assertUsable({ single, dictionaryBytes, contentBytes }, rest);
  const magic = Buffer.alloc(4);
  magic.writeUInt32LE(FRAME_MAGIC);
  yield Buffer.concat([magic, Buffer.of(descriptor), rest]);
  const watchEmpty = watchEmptyPieces('zstd frame');
  for (let last = false; !last;) {
    const header = await exactly(feed, 3);
    const block = header.readUIntLE(0, 3);
    last = (block & 1) === 1;
    watchEmpty(block >> 3);
    yield header;
    // type 1 is one repeated byte
    yield* passed(feed, ((block >> 1) & 3) === 1 ? 1 : block >> 3);
  }
  if ((descriptor >> 2) & 1) yield await exactly(feed, 4);
}

interface FrameShape {
  readonly single: boolean;
  readonly dictionaryBytes: number;
  readonly contentBytes: number;
}

/** What follows the descriptor of a frame's header: window, dictionary, content size. */
function assertUsable({ single, dictionaryBytes, contentBytes }: FrameShape, rest: Buffer): void {
  const dictionary = rest.subarray(single ? 0 : 1).subarray(0, dictionaryBytes);
  if (dictionary.some((byte) => byte !== 0))
    throw unsupported('zstd stream was made with a dictionary, which is not in it: compress without one');
  const window = single
    ? contentSize(rest.subarray(dictionaryBytes), contentBytes)
    : windowSize(rest[0] ?? 0);
  if (window > MAX_WINDOW)
    throw unsupported(
      `zstd stream needs a window of ${window} bytes, ${MAX_WINDOW} is the limit: compress it without --long`,
    );
}

/** Window_Descriptor (§3.1.1.1.2). */
function windowSize(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 7);
}

/** Frame_Content_Size (§3.1.1.1.4), which is the window of a frame in one segment. */
function contentSize(bytes: Buffer, length: number): number {
  if (length === 8) return Number(bytes.readBigUInt64LE(0));
  return bytes.readUIntLE(0, length) + (length === 2 ? 256 : 0);
}

async function* passed(feed: Feed, count: number): AsyncGenerator<Buffer> {
  for (let missing = count; missing > 0;) {
    const chunk = await feed.next();
    if (!chunk) throw cutShort();
    yield chunk.subarray(0, missing);
    if (chunk.length > missing) feed.unread(chunk.subarray(missing));
    missing -= Math.min(missing, chunk.length);
  }
}

async function exactly(feed: Feed, count: number): Promise<Buffer> {
  const bytes = await feed.take(count);
  if (bytes.length < count) throw cutShort();
  return bytes;
}

function cutShort(): Error {
  return invalid('zstd stream is cut short');
}

function asInvalid(error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException;
  return code?.startsWith('ZSTD_') || code?.startsWith('Z_')
    ? invalid(`zstd stream is damaged (${code})`, error)
    : error;
}
