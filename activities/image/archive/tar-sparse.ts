import { markAsUntransferable } from 'node:worker_threads';
import { invalid } from '../refusals.js';

/** Stretches of data that one file may have: 24 MiB of memory. */
export const MAX_EXTENTS = 1024 * 1024;
/** Stretches that one map may name, those without data included: tools write one or two of them. */
const MAX_PAIRS = 2 * MAX_EXTENTS;
/** Bytes of a hole that are yielded at once. */
const HOLE_PIECE = 1024 * 1024;

/** One hole for all: whoever wrote to it, or gave its memory away, would change every other. */
const HOLE = Buffer.alloc(HOLE_PIECE);
markAsUntransferable(HOLE.buffer);

/** Where the data of a file is: stretches in ascending order, one behind the other in the archive. */
export interface SparseMap {
  readonly count: number;
  /** Offset of each stretch in the file. */
  readonly offsets: Float64Array;
  readonly lengths: Float64Array;
  /** Offset of each stretch in the packed data. */
  readonly packed: Float64Array;
  /** Bytes of data, all stretches together. */
  readonly packedSize: number;
  /** Size of the file, holes included. */
  readonly size: number;
}

/** A stretch of data of a file. */
export interface TarExtent {
  /** Offset in the file. */
  readonly offset: number;
  readonly data: Buffer;
}

/** Takes the stretches of a map one after another. */
export interface MapBuilder {
  /** @throws {@link FailureType} `ImageInvalid` for one that overlaps those before, or lies outside the file, or is one too many */
  add(offset: number, length: number): void;
  /** @throws {@link FailureType} `ImageInvalid` where the stretches are not as long as the packed data */
  finish(packedSize: number): SparseMap;
}

/** The map of a file without holes. */
export function denseMap(size: number): SparseMap {
  const map = createMapBuilder('', size);
  map.add(0, size);
  return map.finish(size);
}

/** A map under construction; `name` is for messages. */
export function createMapBuilder(name: string, size: number): MapBuilder {
  let arrays = grown(1);
  let pairs = 0;
  let count = 0;
  let end = 0;
  let packedSize = 0;

  function add(offset: number, length: number): void {
    pairs += 1;
    if (pairs > MAX_PAIRS) throw invalid(`sparse map of ${name} has more than ${MAX_PAIRS} stretches`);
    if (offset < end)
      throw invalid(
        `sparse map of ${name} is not in order: data at ${offset} after data that ends at ${end}`,
      );
    if (offset + length > size)
      throw invalid(
        `sparse map of ${name} leaves the file: data ends at ${offset + length}, the file has ${size} bytes`,
      );
    if (length === 0) return;
    if (count === MAX_EXTENTS)
      throw invalid(`sparse map of ${name} has more than ${MAX_EXTENTS} stretches of data`);
    if (count === arrays.offsets.length) arrays = grown(Math.min(count * 4, MAX_EXTENTS), arrays);
    arrays.offsets[count] = offset;
    arrays.lengths[count] = length;
    arrays.packed[count] = packedSize;
    count += 1;
    end = offset + length;
    packedSize += length;
  }

  function finish(stored: number): SparseMap {
    if (packedSize !== stored)
      throw invalid(`sparse map of ${name} describes ${packedSize} bytes of data, the entry has ${stored}`);
    const used = (array: Float64Array): Float64Array => array.subarray(0, count);
    const { offsets, lengths, packed } = arrays;
    return {
      count,
      offsets: used(offsets),
      lengths: used(lengths),
      packed: used(packed),
      packedSize,
      size,
    };
  }
  return { add, finish };
}

type Arrays = Pick<SparseMap, 'offsets' | 'lengths' | 'packed'>;

function grown(count: number, old?: Arrays): Arrays {
  const copy = (from?: Float64Array): Float64Array => {
    const array = new Float64Array(count);
    if (from) array.set(from);
    return array;
  };
  return { offsets: copy(old?.offsets), lengths: copy(old?.lengths), packed: copy(old?.packed) };
}

/** Index of the first stretch that ends after `offset`. */
export function extentAt({ count, offsets, lengths }: SparseMap, offset: number): number {
  let low = 0;
  for (let high = count; low < high;) {
    const middle = (low + high) >>> 1;
    if ((offsets[middle] ?? 0) + (lengths[middle] ?? 0) > offset) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Offset in the packed data of the first byte of data at or after `offset` of the file. */
export function packedOffset(map: SparseMap, offset: number): number {
  const index = extentAt(map, offset);
  if (index === map.count) return map.packedSize;
  return (map.packed[index] ?? 0) + Math.max(0, offset - (map.offsets[index] ?? 0));
}

/** The stretches of data at or after `start`; `packed` begins with the first byte of them. */
export async function* placed(
  packed: AsyncIterable<Buffer>,
  map: SparseMap,
  start: number,
): AsyncGenerator<TarExtent> {
  let index = extentAt(map, start);
  let within = Math.max(0, start - (map.offsets[index] ?? 0));
  for await (let data of packed) {
    while (data.length > 0 && index < map.count) {
      const offset = (map.offsets[index] ?? 0) + within;
      const piece = data.subarray(0, (map.lengths[index] ?? 0) - within);
      yield { offset, data: piece };
      data = data.subarray(piece.length);
      within += piece.length;
      if (within < (map.lengths[index] ?? 0)) break;
      index += 1;
      within = 0;
    }
  }
}

/** The file from `start` to its end, holes as zeros. */
export async function* expanded(
  extents: AsyncIterable<TarExtent>,
  { start, size }: { start: number; size: number },
): AsyncGenerator<Buffer> {
  let at = start;
  for await (const { offset, data } of extents) {
    yield* zeros(offset - at);
    yield data;
    at = offset + data.length;
  }
  yield* zeros(size - at);
}

function* zeros(count: number): Generator<Buffer> {
  for (let left = count; left > 0; left -= HOLE_PIECE) yield HOLE.subarray(0, Math.min(left, HOLE_PIECE));
}
