import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { transientFailure } from '../../../activities/failures.js';
import {
  RangesLostError,
  type ImageSource,
  type SourceFacts,
} from '../../../activities/image/source/types.js';

/** How a file-backed source behaves; by default like a good server. */
export interface FileSourceOptions {
  readonly ranges?: boolean;
  readonly length?: boolean;
  readonly etag?: string;
  /** Bytes a piece of the stream holds. */
  readonly chunk?: number;
  /** Fails with `SourceUnavailable` after so many bytes. */
  readonly failAfter?: number;
  /** Answers ranges until so many bytes were read, then loses them. */
  readonly loseRangesAfter?: number;
  /** Changes what a range is answered with. */
  readonly spoilRange?: (start: number, target: Uint8Array) => void;
  /** Told how many bytes were read, after each piece. */
  readonly onRead?: (bytesRead: number) => void;
}

/** An {@link ImageSource} over a local file, for tests of what reads it. */
export function createFileSource(path: string, options: FileSourceOptions = {}): ImageSource {
  const {
    ranges = true,
    length = true,
    etag = '"v1"',
    chunk = 100_000,
    failAfter = Infinity,
    loseRangesAfter = Infinity,
  } = options;
  const fd = openSync(path, 'r');
  const size = statSync(path).size;
  let bytesRead = 0;
  let head: Buffer | undefined;

  function take(start: number, target: Uint8Array): number {
    if (bytesRead + target.length > failAfter)
      throw transientFailure('SourceUnavailable', 'the file source was told to fail');
    const count = readSync(fd, target, 0, target.length, start);
    bytesRead += count;
    options.onRead?.(bytesRead);
    return count;
  }

  return {
    async probe(): Promise<SourceFacts> {
      if (!head) take(0, (head = Buffer.alloc(Math.min(size, 1024 * 1024))));
      return {
        displayUrl: `file://${path}`,
        ranges,
        seekable: ranges,
        validators: { etag, ...(length ? { length: size } : {}) },
        head,
      };
    },
    async *stream(start) {
      for (let at = start; at < size; at += chunk) {
        const piece = Buffer.alloc(Math.min(chunk, size - at));
        take(at, piece);
        yield piece;
      }
    },
    async readInto(start, target) {
      if (start + target.length > size) throw new Error(`range ${start}+${target.length} is beyond ${size}`);
      // the answer comes later, as from a server
      await new Promise((resolve) => setImmediate(resolve));
      if (bytesRead > loseRangesAfter) throw new RangesLostError('200 instead of 206');
      take(start, target);
      options.spoilRange?.(start, target);
    },
    get bytesRead() {
      return bytesRead;
    },
    close: () => closeSync(fd),
  };
}
