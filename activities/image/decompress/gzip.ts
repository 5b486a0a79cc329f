import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { invalid } from '../refusals.js';

const CHUNK = 1024 * 1024;

/**
 * Decompresses gzip, all members of it. Zero padding after the last member is fine (tape blocks), anything else is refused.
 * @throws {@link FailureType} `ImageInvalid` where the stream is damaged or cut short
 */
export async function* gunzip(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const input = Readable.from(source, { objectMode: false, highWaterMark: CHUNK });
  const decoder = createGunzip({ chunkSize: CHUNK });
  input.on('error', (error) => decoder.destroy(error));
  try {
    for await (const chunk of input.pipe(decoder)) yield chunk as Buffer;
  } catch (error) {
    throw asInvalid(error);
  } finally {
    input.destroy();
    decoder.destroy();
  }
}

/** zlib's own codes mean a bad stream; everything else comes from the source and stays what it is. */
function asInvalid(error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'Z_BUF_ERROR') return invalid('gzip stream is cut short', error);
  if (code?.startsWith('Z_')) return invalid(`gzip stream is damaged (${code})`, error);
  return error;
}
