import { crc32, createInflateRaw, type InflateRaw } from 'node:zlib';
import { hostile, invalid } from '../refusals.js';
import type { StreamInput } from './archive-input.js';
import { DEFLATE, type ZipEntry } from './zip-directory.js';

const OUTPUT_CHUNK = 1024 * 1024;
/** Compressed bytes handed over at once: they may become a thousand times as many before anybody can stop it. */
const INPUT_PIECE = 16 * 1024;

/** What an entry's data must turn out to be; absent where it is only said later. */
export interface DataPromise {
  readonly shown: string;
  readonly method: number;
  readonly compressedSize?: number | undefined;
  readonly size?: number | undefined;
  readonly crc32?: number | undefined;
}

/** What an entry's data was. */
export type DataFound = Pick<ZipEntry, 'compressedSize' | 'size' | 'crc32'>;

/**
 * The content of an entry whose data comes next in the input; returns what it was. The input is behind the data then.
 * @throws {@link FailureType} `ImageHostile` as soon as there is more than promised, `ImageInvalid` where there is less or it is damaged
 */
export async function* readData(input: StreamInput, promise: DataPromise): AsyncGenerator<Buffer, DataFound> {
  const { shown } = promise;
  const start = input.position;
  const bytes = promise.method === DEFLATE ? inflate(input, promise) : copy(input, promise);
  let size = 0;
  let crc = 0;
  for await (const piece of bytes) {
    size += piece.length;
    if (size > (promise.size ?? Infinity))
      throw hostile(`zip entry ${shown} becomes more than the ${promise.size} bytes that it says`);
    crc = crc32(piece, crc);
    yield piece;
  }
  const found = { compressedSize: input.position - start, size, crc32: crc };
  assertFound(found, promise);
  return found;
}

/** @throws {@link FailureType} `ImageInvalid` */
export function assertFound(found: DataFound, promise: DataPromise): void {
  for (const field of ['compressedSize', 'size', 'crc32'] as const) {
    const said = promise[field];
    if (said !== undefined && said !== found[field])
      throw invalid(`zip entry ${promise.shown} has ${field} ${found[field]}, ${said} is said`);
  }
}

async function* copy(input: StreamInput, { shown, size = 0 }: DataPromise): AsyncGenerator<Buffer> {
  for (let left = size; left > 0;) {
    const piece = await input.next(left);
    if (!piece) throw cutShort(input, shown);
    left -= piece.length;
    yield piece;
  }
}

/** Deflate ends by itself; what was read beyond its end goes back to the input. */
async function* inflate(input: StreamInput, promise: DataPromise): AsyncGenerator<Buffer> {
  const inflater = createInflateRaw({ chunkSize: OUTPUT_CHUNK });
  const feeding = feed(inflater, input, promise.compressedSize);
  try {
    for await (const chunk of inflater) yield chunk as Buffer;
    const { fed, last } = feeding;
    input.unread(last.subarray(last.length - (fed - inflater.bytesWritten)));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'Z_BUF_ERROR') throw cutShort(input, promise.shown);
    if (code?.startsWith('Z_'))
      throw invalid(`deflate stream of zip entry ${promise.shown} is damaged (${code})`, error);
    throw error;
  } finally {
    inflater.destroy();
  }
}

/**
 * Gives the inflater one piece after another. After the piece that the stream ends in, Node never asks for more, so that just
 * this piece may have a part that was not used.
 */
function feed(
  inflater: InflateRaw,
  input: StreamInput,
  compressedSize = Infinity,
): { fed: number; last: Buffer } {
  const state = { fed: 0, last: Buffer.alloc(0) as Buffer };

  async function feedAll(): Promise<void> {
    for (;;) {
      const left = Math.min(INPUT_PIECE, compressedSize - state.fed);
      const piece = left > 0 ? await input.next(left) : undefined;
      if (inflater.destroyed) return;
      if (!piece) return void inflater.end();
      state.last = piece;
      state.fed += piece.length;
      await new Promise<void>((resolve) => inflater.write(piece, () => resolve()));
    }
  }

  feedAll().catch((error: Error) => inflater.destroy(error));
  return state;
}

function cutShort({ position }: StreamInput, shown: string): Error {
  return invalid(`zip archive is cut short: the data of ${shown} ends after ${position} bytes`);
}
