import { hostile, invalid, scratchRequired } from '../../refusals.js';
import type { ImageSource, SourceFacts } from '../../source/types.js';

/** Pieces of an image file, for header checks. */
export interface ImageBytes {
  /** Length of the file; `Infinity` where nobody knows. */
  readonly fileBytes: number;
  /**
   * The piece at `offset`, from the head where it lies there. `what` names it in failures.
   * @throws {@link FailureType} `ImageInvalid` where the file ends before; `ScratchSpaceRequired` where the source has no ranges
   */
  at(offset: number, length: number, what: string): Promise<Buffer>;
}

/** No header, table or descriptor that is read here is longer. */
const MAX_PIECE = 64 * 1024 * 1024;

/** The bytes of a source after its probe. */
export function createImageBytes(source: ImageSource, { head, ranges, validators }: SourceFacts): ImageBytes {
  const fileBytes = validators.length ?? Infinity;
  return {
    fileBytes,
    async at(offset, length, what) {
      if (length > MAX_PIECE) throw hostile(`${what} has ${length} bytes, the limit is ${MAX_PIECE}`);
      assertInside(what, offset + length, fileBytes);
      if (offset + length <= head.length) return head.subarray(offset, offset + length);
      if (!ranges) throw scratchRequired(`${what} is at ${offset}, and the source cannot be read by ranges`);
      const piece = Buffer.allocUnsafeSlow(length);
      await source.readInto(offset, piece);
      return piece;
    },
  };
}

/** @throws {@link FailureType} `ImageInvalid` where something ends beyond the file */
export function assertInside(what: string, end: number, fileBytes: number): void {
  if (end > fileBytes) throw invalid(`${what} ends at ${end}, the file at ${fileBytes}: it is cut short`);
}

/** A 64-bit field as a number, little-endian unless told otherwise; nothing honest is at or beyond 2^53. */
export function readU64(bytes: Buffer, at: number, what: string, order: 'LE' | 'BE' = 'LE'): number {
  const value = order === 'LE' ? bytes.readBigUInt64LE(at) : bytes.readBigUInt64BE(at);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw hostile(`${what} is ${value}, beyond 2^53`);
  return Number(value);
}

export function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(Math.log2(value));
}
