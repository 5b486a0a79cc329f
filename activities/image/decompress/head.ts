import type { Compression } from '../../types.js';
import { gunzip } from './gzip.js';
import { unxz } from './xz.js';

/** The first bytes inside one compressor, as far as `head`, itself only a beginning, reaches. */
export async function decompressHead(
  head: Buffer,
  layer: Compression,
  { limit, whole }: { limit: number; whole: boolean },
): Promise<{ head: Buffer; whole: boolean }> {
  const pieces: Buffer[] = [];
  let length = 0;
  async function* once(): AsyncGenerator<Buffer> {
    yield head;
  }
  try {
    // one thread: several would hold a block back until all of it is there
    for await (const piece of layer === 'gz' ? gunzip(once()) : unxz(once(), { threads: 1 })) {
      pieces.push(piece);
      length += piece.length;
      if (length >= limit) return { head: Buffer.concat(pieces), whole: false };
    }
    return { head: Buffer.concat(pieces), whole };
  } catch (error) {
    // a beginning always ends too early; a whole file, or one that gives nothing, is bad
    if (whole || length === 0) throw error;
    return { head: Buffer.concat(pieces), whole: false };
  }
}
