import { largerPvcRequired, type TargetSize } from '../size.js';

/** What a file system gives out at least. */
const FS_BLOCK = 4096;

/** Counts what is written, and refuses what the volume does not offer. What is replaced later counts too. */
export interface Budget {
  /** Bytes of data written. */
  readonly bytes: number;
  /** A new file: its data comes in ascending order. */
  beginFile(): void;
  /** Counts a stretch of data that is about to be written, in the blocks it touches. @throws {@link FailureType} `LargerPVCRequired` */
  addData(offset: number, bytes: number): void;
  /** Counts a directory, or a link that needs a block. @throws {@link FailureType} `LargerPVCRequired` */
  addBlock(): void;
}

/** A budget of `usableBytes`; `onProgress` is told the bytes of data with each stretch. */
export function createBudget({
  size,
  onProgress,
}: {
  readonly size: TargetSize;
  readonly onProgress?: (bytesWritten: number) => void;
}): Budget {
  let bytes = 0;
  let occupied = 0;
  /** First block of the file that is not counted yet. */
  let next = 0;

  function occupy(blocks: number): void {
    occupied += blocks * FS_BLOCK;
    if (occupied > size.usableBytes) throw largerPvcRequired(`at least ${occupied}`, occupied, size);
  }

  return {
    get bytes() {
      return bytes;
    },
    beginFile: () => void (next = 0),
    addData(offset, count) {
      const first = Math.max(next, Math.floor(offset / FS_BLOCK));
      next = Math.max(next, Math.ceil((offset + count) / FS_BLOCK));
      if (next > first) occupy(next - first);
      bytes += count;
      onProgress?.(bytes);
    },
    addBlock: () => occupy(1),
  };
}
