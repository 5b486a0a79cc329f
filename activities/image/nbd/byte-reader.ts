import type { Readable } from 'node:stream';

/** Takes a stream apart into pieces of known lengths. */
export interface ByteReader {
  /** The next `length` bytes; `undefined` where the stream ends before. Use it for small pieces: they are gathered in memory. */
  take(length: number): Promise<Buffer | undefined>;
  /** The next `length` bytes as they come, without gathering them; `false` at its end where the stream ended before. */
  drain(length: number, consume: (piece: Buffer) => Promise<void> | void): Promise<boolean>;
}

/** A reader that pulls: while nobody asks, nothing is read, and the sender waits. */
export function createByteReader(stream: Readable): ByteReader {
  const chunks = stream[Symbol.asyncIterator]() as AsyncIterator<Buffer, undefined>;
  let rest: Buffer = Buffer.alloc(0);

  async function more(): Promise<boolean> {
    const next = await chunks.next();
    if (next.done) return false;
    rest = next.value;
    return true;
  }

  async function drain(length: number, consume: (piece: Buffer) => Promise<void> | void): Promise<boolean> {
    for (let left = length; left > 0;) {
      if (rest.length === 0 && !(await more())) return false;
      const piece = rest.subarray(0, left);
      rest = rest.subarray(piece.length);
      left -= piece.length;
      await consume(piece);
    }
    return true;
  }

  async function take(length: number): Promise<Buffer | undefined> {
    if (rest.length >= length) {
      const whole = rest.subarray(0, length);
      rest = rest.subarray(length);
      return whole;
    }
    const pieces: Buffer[] = [];
    return (await drain(length, (piece) => void pieces.push(piece))) ? Buffer.concat(pieces) : undefined;
  }
  return { take, drain };
}
