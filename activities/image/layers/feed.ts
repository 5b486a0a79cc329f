import { joined } from '../joined.js';

/** Bytes of a stream, taken piece by piece, with the chance to put back what was too much. */
export interface Feed {
  /** The next chunk, or `undefined` at the end. */
  next(): Promise<Buffer | undefined>;
  /** The next `count` bytes, fewer at the end of the stream. */
  take(count: number): Promise<Buffer>;
  /** Puts bytes back in front of all others. */
  unread(bytes: Buffer): void;
  /** Bytes taken and not put back. */
  readonly position: number;
  close(): Promise<void>;
}

/** A feed over a stream; `position` counts from `start`. */
export function createFeed(bytes: AsyncIterable<Buffer>, start = 0): Feed {
  const iterator = bytes[Symbol.asyncIterator]();
  const back: Buffer[] = [];
  let position = start;

  async function next(): Promise<Buffer | undefined> {
    for (;;) {
      const chunk =
        back.pop() ?? (await iterator.next().then(({ done, value }) => (done ? undefined : value)));
      if (!chunk) return undefined;
      if (chunk.length === 0) continue;
      position += chunk.length;
      return chunk;
    }
  }

  function unread(bytes: Buffer): void {
    if (bytes.length === 0) return;
    position -= bytes.length;
    back.push(bytes);
  }

  async function take(count: number): Promise<Buffer> {
    const pieces: Buffer[] = [];
    let missing = count;
    while (missing > 0) {
      const chunk = await next();
      if (!chunk) break;
      pieces.push(chunk.subarray(0, missing));
      if (chunk.length > missing) unread(chunk.subarray(missing));
      missing -= Math.min(missing, chunk.length);
    }
    return joined(pieces);
  }

  return {
    next,
    take,
    unread,
    get position() {
      return position;
    },
    close: async () => void (await iterator.return?.()),
  };
}
