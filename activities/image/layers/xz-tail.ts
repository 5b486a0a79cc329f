import type { ImageSource } from '../source/types.js';

/** What is read at once: little where the next thing is far away, four times as much wherever it is near. */
const LEAST_BYTES = 64 * 1024;
export const MOST_BYTES = 4 * 1024 * 1024;
/** A request takes the time of so many bytes: at 30 ms and 80 MB/s it is more. */
const REQUEST_BYTES = 256 * 1024;

/** A file that is read from its end to its beginning. What it gives is valid until it is asked again. */
export interface Tail {
  /** Some bytes, one at least, that end at `end`. */
  upTo(end: number): Promise<Buffer>;
  /** At most {@link MOST_BYTES}. */
  take(start: number, end: number): Promise<Buffer>;
  /** Bytes that were read, a small request counted as one of 256 KiB. */
  readonly cost: number;
}

/** Reads a file backwards by few requests: what is near to each other comes in one. Holds 4 MiB at most. */
export function createTail(source: ImageSource, fileBytes: number): Tail {
  let memory = Buffer.alloc(0);
  let window = { start: fileBytes, bytes: memory };
  let size = LEAST_BYTES / 4;
  let cost = 0;

  async function load(start: number, end: number): Promise<void> {
    const isNear = window.start - end < size;
    size = isNear ? Math.min(size * 4, MOST_BYTES) : LEAST_BYTES;
    const from = Math.max(0, Math.min(start, end - size));
    if (memory.length < end - from) memory = Buffer.alloc(end - from);
    window = { start: from, bytes: memory.subarray(0, end - from) };
    cost += Math.max(window.bytes.length, REQUEST_BYTES);
    await source.readInto(from, window.bytes);
  }

  async function take(start: number, end: number): Promise<Buffer> {
    if (start < window.start || end > window.start + window.bytes.length) await load(start, end);
    return window.bytes.subarray(start - window.start, end - window.start);
  }
  return {
    take,
    async upTo(end) {
      await take(end - 1, end);
      return await take(window.start, end);
    },
    get cost() {
      return cost;
    },
  };
}
