import { hostile } from '../refusals.js';
import type { TargetSize } from '../size.js';
import type { ImageSource } from './types.js';

/** A file is larger than its disk by what deleted snapshots have left in it, and never by more than this. */
const MOST = { timesTheDisk: 16, moreBytes: 64 * 1024 * 1024 };

/**
 * The same source with a bound by the size of its target, for one that can only be read in order: nothing proves its end, and a body
 * without end may hold what no reader counts, as padding, empty members of a compressor, or clusters that no table names.
 */
export function boundedBy(source: ImageSource, { usableBytes }: TargetSize): ImageSource {
  const mostBytes = usableBytes * MOST.timesTheDisk + MOST.moreBytes;

  async function* stream(start: number): AsyncGenerator<Buffer> {
    let at = start;
    for await (const chunk of source.stream(start)) {
      at += chunk.length;
      if (at > mostBytes)
        throw hostile(
          `source has more than ${mostBytes} bytes, for a disk of at most ${usableBytes}: it may have no end`,
        );
      yield chunk;
    }
  }
  return {
    probe: () => source.probe(),
    stream,
    readInto: (start, target) => source.readInto(start, target),
    get bytesRead() {
      return source.bytesRead;
    },
    close: () => source.close(),
  };
}
