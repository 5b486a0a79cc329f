import { HEAD_BYTES } from '../source/streamed-source.js';
import type { SourceFacts } from '../source/types.js';

/** Fewer bytes than this tell nothing of what is inside, unless they are all. */
const ENOUGH = 4096;

/**
 * The first bytes inside a compressor or an archive, as far as the head outside of it reaches; `undefined` where that is too
 * little and the stream has to be opened. Nothing is fetched.
 */
export async function headInside(
  { head, validators }: SourceFacts,
  decompress: (bytes: AsyncIterable<Buffer>) => AsyncIterable<Buffer>,
): Promise<Buffer | undefined> {
  if (validators.length === head.length) return undefined;
  const pieces: Buffer[] = [];
  let length = 0;
  async function* beginning(): AsyncGenerator<Buffer> {
    yield head;
  }
  try {
    for await (const piece of decompress(beginning())) {
      // decoders of threads may use their memory again
      pieces.push(Buffer.from(piece));
      length += piece.length;
      if (length >= HEAD_BYTES) break;
    }
  } catch {
    // a beginning always ends too early; what is wrong with the whole is told by whoever reads it
  }
  return length >= ENOUGH ? Buffer.concat(pieces).subarray(0, HEAD_BYTES) : undefined;
}
