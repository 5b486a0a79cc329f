import { permanentFailure } from '../../failures.js';
import { parseChecksum } from '../source/checksum.js';
import type { ImageSource } from '../source/types.js';
import { createHasher, type Hasher } from './hasher.js';

/** How a source is verified. */
export interface VerifyOptions {
  /** `algorithm:hex` of all bytes of the source. */
  readonly checksum: string;
  /** The first bytes from another place than the source, for a stream that begins in the middle; see {@link verifying}. */
  readonly beginning?: (bytes: number) => AsyncIterable<Buffer>;
}

/**
 * The same source, whose stream ends only when all of its bytes have the checksum. It has no ranges: only the whole, in order,
 * can be judged. It can be entered in the middle where `beginning` supplies what lies before, from a disk that holds the source
 * byte for byte.
 * @throws {@link FailureType} from the stream: `ChecksumMismatch` with both digests; `InvalidDataVolume` for no checksum
 */
export function verifying(source: ImageSource, { checksum, beginning }: VerifyOptions): ImageSource {
  const { algorithm, hex } = parseChecksum(checksum);

  async function* stream(start: number): AsyncGenerator<Buffer> {
    const hasher = createHasher(algorithm);
    try {
      if (start > 0 && beginning) for await (const piece of beginning(start)) await hasher.update(piece);
      for await (const piece of source.stream(beginning ? start : 0)) {
        await hasher.update(piece);
        yield piece;
      }
      await judge(hasher);
    } finally {
      await hasher.close();
    }
  }

  async function judge(hasher: Hasher): Promise<void> {
    const calculated = await hasher.digest();
    if (calculated === hex) return;
    throw permanentFailure(
      'ChecksumMismatch',
      `checksum mismatch: expected ${algorithm}:${hex}, calculated ${algorithm}:${calculated}`,
    );
  }

  return {
    async probe() {
      const facts = await source.probe();
      return { ...facts, ranges: false, seekable: facts.seekable && beginning !== undefined };
    },
    stream,
    readInto: () => Promise.reject(new Error('a source that is verified is read in order')),
    get bytesRead() {
      return source.bytesRead;
    },
    close: () => source.close(),
  };
}
