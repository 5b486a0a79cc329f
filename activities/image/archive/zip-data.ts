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
    input.unread(await feeding.rest());
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
 * Gives the inflater one piece after another. Node may ask for some more after the piece that the stream ends in: all that the
 * inflater has not used up is kept. `rest` ends the feeding and tells what of it was not used.
 */
function feed(
  inflater: InflateRaw,
  input: StreamInput,
  compressedSize = Infinity,
): { rest: () => Promise<Buffer> } {
  let kept: Buffer[] = [];
  let used = 0;
  let fed = 0;
  let over = false;
  let reading: Promise<Buffer | undefined> | undefined;

  async function nextPiece(): Promise<Buffer | undefined> {
    const left = Math.min(INPUT_PIECE, compressedSize - fed);
    const piece = left > 0 ? await input.next(left) : undefined;
    if (!piece) return undefined;
    // its memory is the input's again once the next one is asked for
    const own = Buffer.from(piece);
    fed += own.length;
    kept.push(own);
    return own;
  }

  function forget(): void {
    for (let [first] = kept; first && used + first.length <= inflater.bytesWritten; [first] = kept) {
      used += first.length;
      kept = kept.slice(1);
    }
  }

  async function feedAll(): Promise<void> {
    while (!over && !inflater.destroyed && !inflater.readableEnded) {
      forget();
      reading = nextPiece();
      const piece = await reading;
      if (over || inflater.destroyed) return;
      if (!piece) return void inflater.end();
      await new Promise<void>((resolve) => inflater.write(piece, () => resolve()));
    }
  }

  feedAll().catch((error: Error) => inflater.destroy(error));
  return {
    async rest() {
      over = true;
      await reading;
      return Buffer.concat(kept).subarray(inflater.bytesWritten - used);
    },
  };
}

function cutShort({ position }: StreamInput, shown: string): Error {
  return invalid(`zip archive is cut short: the data of ${shown} ends after ${position} bytes`);
}
