import { hostile } from '../refusals.js';

/** Tools end a file by one such piece at most (`bgzip`), or put one before each piece (`pzstd`); concatenated files have a few more. */
const MOST_IN_A_ROW = 100;

/**
 * Watches the pieces of a compressor (`what`: `gzip stream`) for those that hold nothing: each costs its decoder some time, and no
 * size of a disk ends them. Call it with the bytes of each piece.
 * @throws {@link FailureType} `ImageHostile` for too many in a row
 */
export function watchEmptyPieces(what: string): (bytes: number) => void {
  let empty = 0;
  return (bytes) => {
    empty = bytes === 0 ? empty + 1 : 0;
    if (empty > MOST_IN_A_ROW)
      throw hostile(`${what} has more than ${MOST_IN_A_ROW} parts in a row that hold nothing`);
  };
}
