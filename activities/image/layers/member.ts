import type { BrotliDecompress, InflateRaw } from 'node:zlib';
import { joined } from '../joined.js';
import type { Feed } from './feed.js';

/** A decoder of node:zlib that ends by itself where its stream ends. */
export type Decoder = InflateRaw | BrotliDecompress;

/** With chunks of the default 16 KiB Node decodes at half the speed (`performance.md` §6). In bytes. */
const CHUNK = 1024 * 1024;
/** Output that a decoder makes ahead of its reader, so that it goes on while what it has made is written. */
const AHEAD = 4 * CHUNK;

/** Options of a decoder of node:zlib, whose own types leave out that it is a stream. */
export function decoderOptions<O extends object>(options: O): O & { readonly chunkSize: number } {
  return { ...options, chunkSize: CHUNK, readableHighWaterMark: AHEAD };
}

/**
 * The output of a decoder that is fed from `feed` until its stream ends; what it did not consume goes back to the feed. Errors of
 * the feed and of the decoder come out as they are.
 */
export async function* decodeMember(feed: Feed, decoder: Decoder): AsyncGenerator<Buffer> {
  const fed: Buffer[] = [];
  let fedBytes = 0;
  let over = false;
  let sourceError: { error: unknown } | undefined;
  let wake = (): void => undefined;

  async function pump(): Promise<void> {
    while (!over) {
      const chunk = await feed.next();
      if (!chunk) return void decoder.end();
      fed.push(chunk);
      fedBytes += chunk.length;
      forgetConsumed();
      if (!over) await consumed(chunk);
    }
  }

  /** Nothing is fetched beyond a chunk that the stream ends in: of many small members each would gather one more. */
  async function consumed(chunk: Buffer): Promise<void> {
    await new Promise<void>((resolve) => {
      wake = resolve;
      decoder.write(chunk, () => resolve());
    });
    over ||= decoder.bytesWritten < fedBytes;
  }

  /** Keeps only chunks that may not be consumed yet. */
  function forgetConsumed(): void {
    let kept = fed.reduce((sum, chunk) => sum + chunk.length, 0);
    for (let first = fed[0]; first; first = fed[0]) {
      if (fedBytes - (kept - first.length) > decoder.bytesWritten) return;
      kept -= first.length;
      fed.shift();
    }
  }

  const end = (): void => {
    over = true;
    wake();
  };
  decoder.once('end', end).once('close', end).once('error', end);
  const pumping = pump().catch((error: unknown) => {
    sourceError = { error };
    decoder.destroy();
  });
  try {
    for await (const chunk of decoder) yield chunk as Buffer;
    await pumping;
    // the decoder may be done before the source says what is wrong with the bytes that it has already given
    if (sourceError) throw sourceError.error;
    const unconsumed = fedBytes - decoder.bytesWritten;
    if (unconsumed > 0) feed.unread(joined(fed).subarray(-unconsumed));
  } catch (error) {
    throw sourceError ? sourceError.error : error;
  } finally {
    decoder.destroy();
    await pumping;
  }
}
