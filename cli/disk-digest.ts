import { permanentFailure } from '../activities/failures.js';
import { createFileSource } from '../activities/image/source/file-source.js';
import type { TransferResult } from '../activities/types.js';

/**
 * The sha256 of the first `virtualSize` bytes of a disk that was written, read back.
 * @throws {@link FailureType} `ClaimLost` where it is shorter by now; the signal's reason
 */
export async function sha256OfDisk(
  path: string,
  { virtualSize }: Pick<TransferResult, 'virtualSize'>,
  signal: AbortSignal,
): Promise<string> {
  const { createHasher } = await import('../activities/image/verify/hasher.js');
  const hasher = createHasher('sha256');
  const disk = createFileSource({ path }, { signal });
  let left = virtualSize;
  try {
    for await (const piece of disk.stream(0)) {
      await hasher.update(piece.subarray(0, left));
      left -= Math.min(left, piece.length);
      if (left === 0) break;
    }
    if (left > 0)
      throw permanentFailure('ClaimLost', `the disk was cut short by ${left} bytes after it was written`);
    return await hasher.digest();
  } finally {
    disk.close();
    await hasher.close();
  }
}
