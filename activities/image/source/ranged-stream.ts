import type { Session } from './session.js';
import { RangesLostError, type SourceFacts } from './types.js';

/** A piece of the stream, and how many are on their way: enough for a fast link, little to lose when the reader stops. */
const PIECE = 2 * 1024 * 1024;
const AHEAD = 6;

/** What a stream over ranges is made of. */
export interface RangedStreamParts {
  readonly session: Session;
  readonly facts: SourceFacts;
  readonly readInto: (start: number, target: Uint8Array) => Promise<void>;
  /** The bytes from an offset by one request, for a server that stops answering ranges on the way. */
  readonly whole: (start: number) => AsyncIterable<Buffer>;
}

interface Piece {
  readonly memory: Buffer;
  readonly arrived: Promise<void>;
}

/**
 * The source from `start` to its end by ranges that are asked for ahead of the reader. The head that the probe has is not asked
 * for again. A server that loses its ranges is read on from where it was, with the decoder that reads this still alive.
 */
export async function* streamByRanges(
  parts: RangedStreamParts,
  start: number,
): AsyncGenerator<Buffer, void, undefined> {
  const { head, validators } = parts.facts;
  const size = validators.length ?? 0;
  const ahead: Piece[] = [];
  let asked = Math.max(start, head.length);
  let delivered = start;
  if (start < head.length) {
    delivered = head.length;
    fill();
    yield head.subarray(start);
  }
  try {
    for (;;) {
      fill();
      const next = ahead.shift();
      if (!next) return;
      await next.arrived;
      delivered += next.memory.length;
      yield next.memory;
    }
  } catch (error) {
    if (!(error instanceof RangesLostError)) throw error;
    parts.session.notice('the server no longer answers ranges: reading on in one piece');
    yield* parts.whole(delivered);
  }

  function fill(): void {
    while (asked < size && ahead.length < AHEAD) {
      const memory = Buffer.allocUnsafeSlow(Math.min(PIECE, size - asked));
      const arrived = parts.readInto(asked, memory);
      // awaited in its turn; a reader that has stopped by then asks no more
      arrived.catch(() => undefined);
      ahead.push({ memory, arrived });
      asked += memory.length;
    }
  }
}
