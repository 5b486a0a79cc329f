import type { ImageSource } from '../source/types.js';
import { padded, type XzBlocks } from './xz-index.js';

/** Blocks that are fetched by one request, in bytes of the file, with what lies between them: two such batches are held. */
const BATCH_BYTES = 4 * 1024 * 1024;
/** A block of more is a request of its own. */
const LARGE_BYTES = BATCH_BYTES / 2;
/** Memory of a reader where no block has more than `largest` bytes. */
export const batchMemory = (largest: number): number => (largest > LARGE_BYTES ? 0 : 2 * BATCH_BYTES);

/** Reads the block of an index into memory of its padded size; from one call to the next, indexes go up. */
export type BlockReader = (index: number, target: Buffer) => Promise<void>;

/** Neighbouring blocks, on their way or there. */
interface Batch {
  /** Where they begin in the file. */
  readonly start: number;
  /** Index of the block behind the last of them. */
  readonly next: number;
  readonly bytes: Buffer;
  readonly ready: Promise<void>;
}

/** Reads small blocks by one request for many, and one such batch ahead, so that none waits for an answer of its own. */
export function createBlockReader(source: ImageSource, blocks: XzBlocks): BlockReader {
  const memory: Buffer[] = [];
  let current: Batch | undefined;
  let following: Batch | undefined;
  let turn: Promise<unknown> = Promise.resolve();

  const sizeOf = (index: number): number => padded(blocks.at(index).unpaddedSize);

  /** From the first small block at or after `index` on. */
  function begin(index: number): Batch | undefined {
    let first = index;
    while (first < blocks.count && sizeOf(first) > LARGE_BYTES) first += 1;
    if (first === blocks.count) return undefined;
    const start = blocks.at(first).inner;
    let next = first;
    let end = start;
    for (; next < blocks.count && sizeOf(next) <= LARGE_BYTES; next += 1) {
      const blockEnd = blocks.at(next).inner + sizeOf(next);
      if (blockEnd - start > BATCH_BYTES) break;
      end = blockEnd;
    }
    const bytes = (memory.pop() ?? Buffer.allocUnsafeSlow(BATCH_BYTES)).subarray(0, end - start);
    const ready = source.readInto(start, bytes);
    // for whoever waits for one of its blocks
    ready.catch(() => undefined);
    return { start, next, bytes, ready };
  }

  function batchOf(index: number): Batch {
    while (!current || index >= current.next) {
      if (current) memory.push(wholeOf(current.bytes));
      current = following ?? begin(index);
      if (!current) throw new Error(`no batch holds block ${index}`);
      following = begin(current.next);
    }
    return current;
  }

  async function copy(index: number, target: Buffer): Promise<void> {
    const { start, bytes, ready } = batchOf(index);
    await ready;
    bytes.copy(target, 0, blocks.at(index).inner - start);
  }

  return (index, target) => {
    if (sizeOf(index) > LARGE_BYTES) return source.readInto(blocks.at(index).inner, target);
    // one after the other: whoever comes next may need the memory of the batch before
    const copied = turn.then(() => copy(index, target));
    turn = copied.catch(() => undefined);
    return copied;
  };
}

/** The memory that a batch has a part of. */
function wholeOf(bytes: Buffer): Buffer {
  return Buffer.from(bytes.buffer, 0, BATCH_BYTES);
}
