import { createHash } from 'node:crypto';
import { createReadStream, statSync } from 'node:fs';
import { open } from 'node:fs/promises';

/** Something that a test server serves. */
export interface Content {
  readonly size: number;
  /** Bytes of `[start, end)`, in order. */
  read(start: number, end: number): AsyncIterable<Buffer> | Iterable<Buffer>;
}

/** Bytes in memory. */
export function bufferContent(bytes: Buffer): Content {
  return {
    size: bytes.length,
    *read(start, end) {
      for (let at = start; at < end; at += PIECE) yield bytes.subarray(at, Math.min(at + PIECE, end));
    },
  };
}

/** A file, read as it is asked for. */
export function fileContent(path: string): Content {
  return {
    size: statSync(path).size,
    read: (start, end) =>
      start === end
        ? []
        : (createReadStream(path, {
            start,
            end: end - 1,
            highWaterMark: 4 * PIECE,
          }) as AsyncIterable<Buffer>),
  };
}

const PIECE = 65_536;
const ZEROS = Buffer.alloc(PIECE);

/** Shape of a generated disk. */
export interface SparseShape {
  readonly size: number;
  /** An extent of data begins at each multiple of so many bytes; a multiple of 65 536. @default 64 MiB */
  readonly every?: number;
  /** Bytes of data in each extent, the rest is zeros; a multiple of 65 536. @default 1 MiB */
  readonly data?: number;
  /** Other seeds give other data. @default 1 */
  readonly seed?: number;
}

/**
 * A raw disk of any size that exists nowhere: zeros with extents of noise, each 64 KiB of which begins with its own offset, so
 * that misplaced data is noticed. 4 GiB cost no memory and no disk.
 */
export function sparseContent(shape: SparseShape): Content {
  const { size, every = 64 * 1024 * 1024, data = 1024 * 1024, seed = 1 } = shape;
  const noise = noiseOf(seed);
  function piece(at: number): Buffer {
    if (at % every >= data) return ZEROS;
    const bytes = Buffer.from(noise);
    bytes.writeBigUInt64LE(BigInt(at));
    return bytes;
  }
  return {
    size,
    *read(start, end) {
      for (let at = start; at < end;) {
        const base = at - (at % PIECE);
        const until = Math.min(base + PIECE, end);
        yield piece(base).subarray(at - base, until - base);
        at = until;
      }
    },
  };
}

/** 64 KiB of xorshift32, never zero. */
function noiseOf(seed: number): Buffer {
  const words = new Uint32Array(PIECE / 4);
  let state = Math.imul(seed, 0x9e3779b1) | 1;
  for (let index = 0; index < words.length; index += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[index] = state;
  }
  return Buffer.from(words.buffer);
}

/** Digest of a content, in hex. */
export async function digestOf(content: Content, algorithm = 'sha256'): Promise<string> {
  const hash = createHash(algorithm);
  for await (const chunk of content.read(0, content.size)) hash.update(chunk);
  return hash.digest('hex');
}

/** Writes a content to a file, leaving holes where it is zero. */
export async function writeContent(content: Content, path: string): Promise<void> {
  const file = await open(path, 'w');
  try {
    await file.truncate(content.size);
    let at = 0;
    for await (const chunk of content.read(0, content.size)) {
      if (!ZEROS.subarray(0, chunk.length).equals(chunk)) await file.write(chunk, 0, chunk.length, at);
      at += chunk.length;
    }
  } finally {
    await file.close();
  }
}

/** All bytes of a small content. */
export async function bytesOf(content: Content, start = 0, end = content.size): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of content.read(start, end)) chunks.push(chunk);
  return Buffer.concat(chunks);
}
