/** Cuts a stream of chunks of any size into pieces of a chosen one. */
export interface PieceReader {
  /** The first bytes, at most `limit`, without consuming them. Call before `next`. */
  peek(limit: number): Promise<Buffer>;
  /** The next `size` bytes, fewer at the end of the stream, `undefined` after it. The bytes are valid until the next call. */
  next(size: number): Promise<Buffer | undefined>;
}

/** A reader that copies only where a piece straddles two chunks. */
export function createPieceReader(bytes: AsyncIterable<Buffer>): PieceReader {
  const iterator = bytes[Symbol.asyncIterator]();
  let chunks: Buffer[] = [];
  let buffered = 0;
  let ended = false;

  async function fill(wanted: number): Promise<void> {
    while (!ended && buffered < wanted) {
      const piece = await iterator.next();
      if (piece.done) ended = true;
      else {
        chunks.push(piece.value);
        buffered += piece.value.length;
      }
    }
  }

  async function peek(limit: number): Promise<Buffer> {
    await fill(limit);
    if (chunks.length > 1) chunks = [Buffer.concat(chunks)];
    return (chunks[0] ?? Buffer.alloc(0)).subarray(0, limit);
  }

  async function next(size: number): Promise<Buffer | undefined> {
    await fill(size);
    const first = chunks[0];
    if (!first || buffered === 0) return undefined;
    const count = Math.min(size, buffered);
    const piece = first.length >= count ? first.subarray(0, count) : Buffer.concat(chunks, count);
    drop(count);
    return piece;
  }

  function drop(count: number): void {
    buffered -= count;
    for (let left = count; left > 0;) {
      const first = chunks[0];
      if (!first) return;
      if (first.length > left) chunks[0] = first.subarray(left);
      else chunks.shift();
      left -= Math.min(left, first.length);
    }
  }
  return { peek, next };
}
