import { refuseKnownEnd } from './known-end.js';
import { FOOTER_BYTES, readFixedVhd, type FixedVhd } from './vhd.js';

/** A stream that may turn out to be a fixed VHD by its end. */
export interface WatchedStream {
  /** The bytes, without the footer if there is one. */
  readonly bytes: AsyncIterable<Buffer>;
  /** What the end has told; `undefined` before it, and for what is no VHD. */
  readonly found: () => FixedVhd | undefined;
}

/**
 * Takes the footer of a fixed VHD off a stream that is read in order: the last bytes are held back until they are known to be none.
 * `start` is the offset in the file of the stream's first byte. The stream of what is refused by its end, as an Apple disk
 * image, ends with that (`UnsupportedFormat`).
 */
export function watchVhdFooter(stream: AsyncIterable<Buffer>, start: number): WatchedStream {
  let found: FixedVhd | undefined;

  async function* bytes(): AsyncGenerator<Buffer> {
    let held: Buffer = Buffer.alloc(0);
    let at = start;
    for await (const chunk of stream) {
      const enough = chunk.length >= FOOTER_BYTES;
      if (enough && held.length > 0) yield held;
      const rest = enough ? chunk : Buffer.concat([held, chunk]);
      const out = Math.max(0, rest.length - FOOTER_BYTES);
      if (out > 0) yield rest.subarray(0, out);
      at += out + (enough ? held.length : 0);
      // the memory of a piece is the stream's again once the next one is asked for
      held = Buffer.from(rest.subarray(out));
    }
    refuseKnownEnd(held);
    found = held.length === FOOTER_BYTES ? readFixedVhd(held, at) : undefined;
    if (!found && held.length > 0) yield held;
  }
  return { bytes: bytes(), found: () => found };
}
