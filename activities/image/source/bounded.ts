import { hostile } from '../refusals.js';
import type { TargetSize } from '../size.js';
import type { ImageSource, SourceFacts } from './types.js';

/** What a decompressor gives, or comes without a length, is larger than its disk by what snapshots have left in it, and by no more than this. */
const MOST = { timesTheDisk: 16, moreBytes: 64 * 1024 * 1024 };

/** Bytes that an image of a disk of `virtualSize` bytes has at most, where nobody has said how many. */
export function mostImageBytes(virtualSize: number): number {
  return virtualSize * MOST.timesTheDisk + MOST.moreBytes;
}

/** Whether a source has a length that it cannot have without as many bytes: no container, whose holes or compressor make them of few. */
export function isAsLongAsAnnounced({ validators, containers = [] }: SourceFacts): boolean {
  return validators.length !== undefined && containers.length === 0;
}

/**
 * An image's bytes out of a decompressor, which can make endless ones of a few; what follows the image is decoded too, to prove
 * the stream whole.
 * @throws {@link FailureType} `ImageHostile` beyond {@link mostImageBytes}
 */
export async function* boundedImage(
  bytes: AsyncIterable<Buffer>,
  virtualSize: number,
): AsyncGenerator<Buffer> {
  const most = mostImageBytes(virtualSize);
  yield* upTo(bytes, most, `image expands to more than ${most} bytes, for a disk of ${virtualSize}`);
}

/** Chunks that begin at offset `at`, and go no further than `most`. */
async function* upTo(
  bytes: AsyncIterable<Buffer>,
  most: number,
  what: string,
  at = 0,
): AsyncGenerator<Buffer> {
  for await (const chunk of bytes) {
    at += chunk.length;
    if (at > most) throw hostile(`${what}: it may have no end`);
    yield chunk;
  }
}

/**
 * The same source with a bound by the size of its target, for one that can only be read in order and has no length: nothing proves its end, and a body
 * without end may hold what no reader counts, as padding, empty members of a compressor, or clusters that no table names.
 */
export function boundedBy(source: ImageSource, { usableBytes }: TargetSize): ImageSource {
  const most = mostImageBytes(usableBytes);
  const what = `source has more than ${most} bytes, for a disk of at most ${usableBytes}`;
  return {
    probe: () => source.probe(),
    stream: (start) => upTo(source.stream(start), most, what, start),
    readInto: (start, target) => source.readInto(start, target),
    get bytesRead() {
      return source.bytesRead;
    },
    close: () => source.close(),
  };
}
