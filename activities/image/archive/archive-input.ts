import { hostile } from '../refusals.js';
import type { ImageSource } from '../source/types.js';

/** Bytes that a ranged input reads at once: several headers, their long names and a small sparse map. */
const WINDOW = 64 * 1024;
/** Reads that the headers of one archive may take: a sparse map of a million stretches has 28 MB. */
export const MOST_READS = 1024;

/** The bytes of an archive in order. */
export interface ArchiveInput {
  /** Offset of the next byte. */
  readonly position: number;
  /** The next bytes, at least one and at most `limit`, without a copy; `undefined` at the end. */
  next(limit: number): Promise<Buffer | undefined>;
  /** Passes over `count` bytes; false where the archive ends before. */
  skip(count: number): Promise<boolean>;
  close(): Promise<void>;
}

/** An input that takes back what was not needed. */
export interface StreamInput extends ArchiveInput {
  /** The next bytes will be these again; they are the last that were handed out. */
  unread(bytes: Buffer): void;
}

/** Reads a stream, whose first byte is the archive's byte `start`; what is passed over is read too. */
export function createStreamInput(bytes: AsyncIterable<Buffer>, start = 0): StreamInput {
  const iterator = bytes[Symbol.asyncIterator]();
  let chunk: Buffer = Buffer.alloc(0);
  let position = start;

  async function next(limit: number): Promise<Buffer | undefined> {
    while (chunk.length === 0) {
      const piece = await iterator.next();
      if (piece.done) return undefined;
      chunk = piece.value;
    }
    const taken = chunk.subarray(0, limit);
    chunk = chunk.subarray(taken.length);
    position += taken.length;
    return taken;
  }

  return {
    get position() {
      return position;
    },
    next,
    async skip(count) {
      for (let left = count; left > 0;) {
        const piece = await next(left);
        if (!piece) return false;
        left -= piece.length;
      }
      return true;
    },
    unread(bytes) {
      chunk = chunk.length === 0 ? bytes : Buffer.concat([bytes, chunk]);
      position -= bytes.length;
    },
    close: async () => void (await iterator.return?.()),
  };
}

/** What a ranged input is made for. */
export interface RangedArchive {
  /** In bytes. */
  readonly size: number;
  /** Its beginning, known already. */
  readonly head: Buffer;
  /** Reads after which it is given up. @default 1024 */
  readonly mostReads?: number;
}

/**
 * Reads a source by ranges, a little at a time; what is passed over is not read.
 * @throws {@link FailureType} `ImageHostile` where that takes too many reads
 */
export function createRangedInput(
  source: Pick<ImageSource, 'readInto'>,
  { size, head, mostReads = MOST_READS }: RangedArchive,
): ArchiveInput {
  let position = 0;
  let window = { at: 0, bytes: head };
  let reads = 0;

  return {
    get position() {
      return position;
    },
    async next(limit) {
      if (position >= size) return undefined;
      if (position < window.at || position >= window.at + window.bytes.length) {
        if (reads === mostReads)
          throw hostile(`archive's headers take more than ${mostReads} reads, at ${position}`);
        reads += 1;
        const bytes = Buffer.allocUnsafeSlow(Math.min(WINDOW, size - position));
        await source.readInto(position, bytes);
        window = { at: position, bytes };
      }
      const within = position - window.at;
      const taken = window.bytes.subarray(within, within + limit);
      position += taken.length;
      return taken;
    },
    async skip(count) {
      const end = position + count;
      position = Math.min(end, size);
      return end <= size;
    },
    close: async () => undefined,
  };
}

/** The next `count` bytes, fewer where the archive ends before. */
export async function take(input: ArchiveInput, count: number): Promise<Buffer> {
  const first = await input.next(count);
  if (!first || first.length === count) return first ?? Buffer.alloc(0);
  // the memory of a chunk is another one's when more have come than a stream keeps (`KEPT_BYTES`)
  const pieces = [Buffer.from(first)];
  for (let length = first.length; length < count;) {
    const piece = await input.next(count - length);
    if (!piece) break;
    pieces.push(Buffer.from(piece));
    length += piece.length;
  }
  return Buffer.concat(pieces);
}

/** Reads bytes of a source by range, those of its beginning from what is known of it. */
export function createHeadReader(
  source: Pick<ImageSource, 'readInto'>,
  head: Buffer,
): (start: number, target: Uint8Array) => Promise<void> {
  return async (start, target) => {
    const known = head.subarray(start, start + target.length);
    target.set(known);
    if (known.length < target.length)
      await source.readInto(start + known.length, target.subarray(known.length));
  };
}
