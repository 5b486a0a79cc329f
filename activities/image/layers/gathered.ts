import { joined } from '../joined.js';

/** As many bytes are worth a decoder's turn on another thread. */
const ENOUGH = 64 * 1024;

/**
 * The same bytes in pieces of at least 64 KiB, but for the last one: each piece costs its decoder a way to another thread and back,
 * also where it has three bytes. What came before an error comes before it still.
 */
export async function* gathered(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let held: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const piece of pieces) {
      held.push(piece);
      bytes += piece.length;
      if (bytes < ENOUGH) continue;
      const all = held;
      held = [];
      bytes = 0;
      yield joined(all);
    }
  } catch (error) {
    if (bytes > 0) yield joined(held);
    throw error;
  }
  if (bytes > 0) yield joined(held);
}
