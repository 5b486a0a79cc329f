import { createBufferPool } from '../../buffer-pool.js';
import type { ImageSource } from '../../source/types.js';

/** Smallest piece that is fetched; pieces begin at its multiples. */
const UNIT = 64 * 1024;
/** Largest piece; a reader that goes on and on gets so many of them ahead, which keeps a line of 50 ms and 80 MB/s busy. */
const MAX_PIECE = 512 * 1024;
const PIECES_AHEAD = 8;
/** Reads of this size or more go to the source as they are: there is nothing to gain from a copy. */
const LARGE = 256 * 1024;
/** All pieces together. */
const CAPACITY = 16 * 1024 * 1024;

interface Piece {
  readonly start: number;
  readonly memory: Buffer;
  /** The part of it that is used. */
  readonly bytes: Buffer;
  readonly ready: Promise<void>;
  /** Those who fill it or wait for it: until there are none, its memory is not used for anything else. */
  users: number;
  /** What follows was asked for once. */
  followed: boolean;
  /** It was fetched because what precedes it had been asked for. */
  readonly sequential: boolean;
}

/** Reads exactly what is asked for. */
export interface ReadCache {
  read(offset: number, target: Buffer): Promise<void>;
}

/**
 * A small cache in front of a source, for a decoder that reads tables and clusters in small pieces and several places at once:
 * each piece of the file is fetched about once, in requests that double as long as a reader goes on where it was, up to 512 KiB,
 * and ahead of it. Random access costs 64 KiB a place. Holds at most 16 MiB.
 */
export function createReadCache(source: ImageSource, fileBytes: number): ReadCache {
  /** By unit; a piece is there once for each of its units. */
  const units = new Map<number, Piece>();
  /** Least recently used first. */
  const pieces = new Set<Piece>();
  const pool = createBufferPool(CAPACITY);
  let held = 0;

  function forget(piece: Piece): void {
    if (!pieces.delete(piece)) return;
    held -= piece.bytes.length;
    for (let unit = piece.start / UNIT; unit * UNIT < piece.start + piece.bytes.length; unit += 1)
      units.delete(unit);
    if (piece.users === 0) pool.give(piece.memory);
  }

  function leave(piece: Piece): void {
    piece.users -= 1;
    if (piece.users === 0 && !pieces.has(piece)) pool.give(piece.memory);
  }

  /** Starts to fetch from a unit that is not there: at most `length` bytes, as far as nothing of it is there. */
  function fetch(first: number, length: number, sequential: boolean): Piece {
    let last = first + 1;
    while (last < first + length / UNIT && last * UNIT < fileBytes && !units.has(last)) last += 1;
    const start = first * UNIT;
    const end = Math.min(last * UNIT, fileBytes);
    const memory = pool.take(end - start);
    const bytes = memory.subarray(0, end - start);
    const ready = source.readInto(start, bytes);
    const piece: Piece = { start, memory, bytes, ready, users: 1, followed: false, sequential };
    for (let unit = first; unit < last; unit += 1) units.set(unit, piece);
    pieces.add(piece);
    held += bytes.length;
    // an error is for whoever waits for the piece; another reader asks again
    ready.catch(() => forget(piece)).finally(() => leave(piece));
    for (const oldest of pieces) {
      if (held <= CAPACITY || oldest === piece) break;
      forget(oldest);
    }
    return piece;
  }

  /** How much to fetch after a piece: twice as much. */
  function ahead(piece: Piece | undefined): number {
    return piece ? Math.min(MAX_PIECE, 2 * Math.ceil(piece.bytes.length / UNIT) * UNIT) : UNIT;
  }

  function pieceOf(unit: number): Piece {
    const before = units.get(unit - 1);
    const piece = units.get(unit) ?? fetch(unit, ahead(before), before !== undefined);
    // the order of a set is that of insertion
    if (pieces.delete(piece)) pieces.add(piece);
    return piece;
  }

  function follow(piece: Piece): void {
    if (piece.followed || !piece.sequential) return;
    piece.followed = true;
    let last = piece;
    for (let count = piece.bytes.length < MAX_PIECE ? 1 : PIECES_AHEAD; count > 0; count -= 1) {
      const next = Math.ceil((last.start + last.bytes.length) / UNIT);
      if (next * UNIT >= fileBytes) return;
      last = units.get(next) ?? fetch(next, ahead(last), true);
    }
  }

  async function read(offset: number, target: Buffer): Promise<void> {
    if (target.length >= LARGE) return source.readInto(offset, target);
    for (let at = 0; at < target.length;) {
      const piece = pieceOf(Math.floor((offset + at) / UNIT));
      piece.users += 1;
      follow(piece);
      try {
        await piece.ready;
        at += piece.bytes.copy(target, at, offset + at - piece.start);
      } finally {
        leave(piece);
      }
    }
  }
  return { read };
}
