import type { ImageSource, SourceFacts } from './types.js';

/** First bytes that a probe shows. */
export const HEAD_BYTES = 1024 * 1024;

/** What a {@link createStreamedSource} is made of. */
export interface StreamedSourceOptions {
  /** Opens the bytes at their start; each iterable is read once. */
  readonly open: () => AsyncIterable<Buffer>;
  /** Everything but the head, which is read from the stream. */
  readonly facts: () => Promise<Omit<SourceFacts, 'head' | 'ranges' | 'seekable'>>;
  /** The first bytes where they are known without opening the stream. */
  readonly head?: () => Promise<Buffer | undefined>;
  readonly bytesRead: () => number;
  /** Closes what the bytes come from. @default that is for whoever opened it */
  readonly close?: () => void;
}

/** A stream under way, and what was taken from it before anybody asked. */
interface Begun {
  readonly iterator: AsyncIterator<Buffer>;
  readonly pieces: readonly Buffer[];
}

/**
 * A source that can only be read from its start: a decompressor's output, the body of an upload. What the probe had to read is
 * delivered by the first `stream`, not read again. Closing it ends every stream that nobody has read to its end.
 */
export function createStreamedSource(options: StreamedSourceOptions): ImageSource {
  const open = new Set<AsyncIterator<Buffer>>();
  let begun: Begun | undefined;
  let probing: Promise<SourceFacts> | undefined;

  async function probeNow(): Promise<SourceFacts> {
    const head = (await options.head?.()) ?? (await beginning());
    return { ...(await options.facts()), ranges: false, seekable: false, head };
  }

  function begin(): AsyncIterator<Buffer> {
    const iterator = options.open()[Symbol.asyncIterator]();
    open.add(iterator);
    return iterator;
  }

  async function end(iterator: AsyncIterator<Buffer>): Promise<void> {
    open.delete(iterator);
    await iterator.return?.();
  }

  async function beginning(): Promise<Buffer> {
    const iterator = begin();
    const pieces: Buffer[] = [];
    for (let length = 0; length < HEAD_BYTES;) {
      const next = await iterator.next();
      if (next.done) break;
      pieces.push(next.value);
      length += next.value.length;
    }
    begun = { iterator, pieces };
    return Buffer.concat(pieces).subarray(0, HEAD_BYTES);
  }

  async function* stream(start: number): AsyncGenerator<Buffer> {
    const { iterator, pieces } = begun ?? { iterator: begin(), pieces: [] };
    begun = undefined;
    let skip = start;
    try {
      for (const piece of pieces) {
        if (piece.length > skip) yield piece.subarray(skip);
        skip -= Math.min(skip, piece.length);
      }
      for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
        if (next.value.length > skip) yield next.value.subarray(skip);
        skip -= Math.min(skip, next.value.length);
      }
    } finally {
      await end(iterator);
    }
  }

  return {
    async probe() {
      probing ??= probeNow();
      // a probe that failed is made anew, as a server may answer by then
      probing.catch(() => (probing = undefined));
      return await probing;
    },
    stream,
    readInto: () => Promise.reject(new Error('this source has no ranges')),
    get bytesRead() {
      return options.bytesRead();
    },
    close() {
      // one that waits for its source ends with that: nobody is told any more what went wrong
      for (const iterator of open) end(iterator).catch(() => undefined);
      begun = undefined;
      options.close?.();
    },
  };
}
