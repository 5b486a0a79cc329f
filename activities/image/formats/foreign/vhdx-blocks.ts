import type { Stretch } from '../../source/types.js';
import type { ImageBytes } from './image-bytes.js';
import type { Region } from './vhdx-regions.js';

const ENTRY_BYTES = 8;
/** A table is read, and forgotten, piece by piece. */
const PIECE_BYTES = 4 * 1024 * 1024;
/** The lowest bits of an entry. */
const STATE_BITS = 7;
/** States whose blocks read as zeros (MS-VHDX 2.5.1.1): not present, undefined, zero, unmapped, and unmapped as version 0.95 had it. */
const HOLES: readonly number[] = [0, 1, 2, 3, 5];
/**
 * QEMU fills a hole of so many bytes with zeros in about the time in which it starts, and of so many for each byte of the table, which
 * it reads then.
 */
const JOINED = { bytes: 4 * 1024 ** 3, perTableByte: 2048 };

/** What divides the disk of a VHDX into blocks. */
export interface BlockLayout {
  readonly blockBytes: number;
  readonly virtualSize: number;
  /** Blocks from one entry of a sector bitmap, which is in the table too, to the next. */
  readonly chunk: number;
}

/**
 * Where the disk of a VHDX holds data, in order, by its block table; neighbours with a smaller hole between them than is worth
 * leaving out are one. What is left out reads as zeros: QEMU would make and search them in memory, 110 s for 1 TiB.
 */
export async function readStretches(
  bytes: ImageBytes,
  table: Region,
  { blockBytes, virtualSize, chunk }: BlockLayout,
): Promise<readonly Stretch[]> {
  const stretches: { start: number; end: number }[] = [];
  const blocks = Math.ceil(virtualSize / blockBytes);
  const length = (blocks + Math.floor(Math.max(0, blocks - 1) / chunk)) * ENTRY_BYTES;
  const joined = Math.max(JOINED.bytes, length * JOINED.perTableByte);

  function add(start: number): void {
    const end = Math.min(start + blockBytes, virtualSize);
    const last = stretches.at(-1);
    if (last && start - last.end < joined) last.end = end;
    else stretches.push({ start, end });
  }
  for (let done = 0; done < length; done += PIECE_BYTES) {
    const size = Math.min(PIECE_BYTES, length - done);
    const piece = await bytes.at(table.offset + done, size, 'VHDX block table');
    for (let at = 0; at < size; at += ENTRY_BYTES) {
      const entry = (done + at) / ENTRY_BYTES;
      // after those of its chunk
      const ofBitmap = entry % (chunk + 1) === chunk;
      if (ofBitmap || HOLES.includes((piece[at] ?? 0) & STATE_BITS)) continue;
      add((entry - Math.floor(entry / (chunk + 1))) * blockBytes);
    }
  }
  return stretches;
}
