import { invalid, unsupported } from '../refusals.js';
import { BLOCK, cutShort, sizeOf, type TarHeader } from './tar-header.js';
import { take, type ArchiveInput } from './archive-input.js';
import { decimal, type PaxAttributes } from './tar-pax.js';
import { createMapBuilder, denseMap, MAX_EXTENTS, type MapBuilder, type SparseMap } from './tar-sparse.js';

/** GNU tar's `struct oldgnu_header` and `struct sparse_header`: pairs of 12 bytes, then whether a block of more pairs follows. */
const OLD_GNU = { pairs: 386, count: 4, extended: 482, realSize: [483, 12] } as const;
const CONTINUATION = { pairs: 0, count: 21, extended: 504 } as const;
const FIELD = 12;
const MAX_CONTINUATIONS = Math.ceil(MAX_EXTENTS / CONTINUATION.count);
/** Digits of one number of a 0.1 or 1.0 map. */
const MAX_DIGITS = 20;
const COMMA = 0x2c;

/** What a file's entry says about its data. */
export interface FileLayout {
  /** Name for messages. */
  readonly name: string;
  readonly header: TarHeader;
  readonly pax: PaxAttributes;
  /** Bytes that the entry occupies in the archive. */
  readonly stored: number;
}

/**
 * Reads where the data of a file goes: in the header and the blocks after it (old GNU), in PAX records (0.0, 0.1), or at the
 * beginning of the data (1.0). The input is at the first byte of packed data then.
 * @throws {@link FailureType} `ImageInvalid`, `UnsupportedFormat`
 */
export async function readSparseMap(input: ArchiveInput, layout: FileLayout): Promise<SparseMap> {
  const { header, pax, name, stored } = layout;
  if (header.typeflag === 'S') return await readOldGnu(input, layout);
  const major = pax.count('GNU.sparse.major');
  const minor = pax.count('GNU.sparse.minor') ?? 0;
  if (major === 1 && minor === 0) return await readVersion1(input, layout);
  if (major !== undefined && major !== 0)
    throw unsupported(`${name} is stored in GNU sparse format ${major}.${minor}, which is not read`);
  const size = pax.count('GNU.sparse.size');
  return size === undefined ? denseMap(stored) : mapOfRecords(layout, size);
}

async function readOldGnu(input: ArchiveInput, { name, header, stored }: FileLayout): Promise<SparseMap> {
  if (!header.gnu) throw unsupported(`${name} is a sparse file of another kind than GNU tar's`);
  const map = createMapBuilder(name, sizeOf(header.block, OLD_GNU.realSize, `size of sparse file ${name}`));
  let more = addPairs(map, header.block, OLD_GNU, name);
  for (let count = 0; more; count += 1) {
    if (count === MAX_CONTINUATIONS)
      throw invalid(`sparse map of ${name} has more than ${MAX_CONTINUATIONS} continuation headers`);
    const block = await take(input, BLOCK);
    if (block.length < BLOCK) throw cutShort(input, name);
    more = addPairs(map, block, CONTINUATION, name);
  }
  return map.finish(stored);
}

/** Adds the pairs of one block; an empty one is the last. Whether another block of pairs follows. */
function addPairs(
  map: MapBuilder,
  block: Buffer,
  { pairs, count, extended }: { pairs: number; count: number; extended: number },
  name: string,
): boolean {
  const goesOn = block[extended] !== 0;
  for (let index = 0; index < count; index += 1) {
    const at = pairs + 2 * FIELD * index;
    if (block[at + FIELD] === 0) {
      if (goesOn) throw invalid(`sparse map of ${name} goes on after its end`);
      return false;
    }
    const what = `sparse map of ${name}`;
    map.add(sizeOf(block, [at, FIELD], what), sizeOf(block, [at + FIELD, FIELD], what));
  }
  return goesOn;
}

/** 0.1 has all numbers in one record, 0.0 has one record a number. */
function mapOfRecords({ name, pax, stored }: FileLayout, size: number): SparseMap {
  const map = createMapBuilder(name, size);
  const list = pax.text('GNU.sparse.map');
  const numbers = list ? addList(map, list, name) : addNumbers(map, pax.pairs);
  const blocks = pax.count('GNU.sparse.numblocks');
  if (numbers % 2 !== 0 || (blocks !== undefined && blocks * 2 !== numbers))
    throw invalid(`sparse map of ${name} has ${numbers} numbers, ${blocks ?? 'some'} pairs are said`);
  return map.finish(stored);
}

/**
 * Adds the numbers between the commas of a list, one pair after another: all of them at once would take many times the memory of
 * their text. How many numbers there were.
 */
function addList(map: MapBuilder, list: Buffer, name: string): number {
  let numbers = 0;
  let offset = 0;
  for (let start = 0; start <= list.length; numbers += 1) {
    const comma = list.indexOf(COMMA, start);
    const end = comma === -1 ? list.length : comma;
    // what is longer than a number is none
    const digits = list.toString('latin1', start, Math.min(end, start + MAX_DIGITS + 1));
    const number = decimal(digits, `sparse map of ${name}`);
    if (numbers % 2 === 0) offset = number;
    else map.add(offset, number);
    start = end + 1;
  }
  return numbers;
}

function addNumbers(map: MapBuilder, numbers: readonly number[]): number {
  for (let index = 0; index + 1 < numbers.length; index += 2)
    map.add(numbers[index] ?? 0, numbers[index + 1] ?? 0);
  return numbers.length;
}

/** 1.0 puts lines before the data, padded to a block: how many pairs, then the numbers. */
async function readVersion1(input: ArchiveInput, { name, pax, stored }: FileLayout): Promise<SparseMap> {
  const size = pax.count('GNU.sparse.realsize');
  if (size === undefined) throw invalid(`${name} is a sparse file without its size`);
  const map = createMapBuilder(name, size);
  const lines = createLines(input, name, stored);
  const pairs = await lines.next();
  if (pairs > MAX_EXTENTS + 1)
    throw invalid(`sparse map of ${name} has ${pairs} stretches of data, ${MAX_EXTENTS} is the limit`);
  for (let index = 0; index < pairs; index += 1) map.add(await lines.next(), await lines.next());
  return map.finish(stored - lines.consumed);
}

/** Numbers from lines, read block by block, and not beyond the `stored` bytes of the entry. */
function createLines(
  input: ArchiveInput,
  name: string,
  stored: number,
): { next(): Promise<number>; readonly consumed: number } {
  let text = '';
  let at = 0;
  let consumed = 0;

  async function fill(): Promise<void> {
    if (consumed + BLOCK > stored) throw invalid(`sparse map of ${name} is longer than its entry`);
    const block = await take(input, BLOCK);
    if (block.length < BLOCK) throw cutShort(input, name);
    consumed += BLOCK;
    text = text.slice(at) + block.toString('latin1');
    at = 0;
  }

  return {
    async next() {
      let end = text.indexOf('\n', at);
      if (end === -1 && text.length - at <= MAX_DIGITS) {
        await fill();
        end = text.indexOf('\n');
      }
      const value = decimal(end === -1 ? '' : text.slice(at, end), `sparse map of ${name}`);
      at = end + 1;
      return value;
    },
    get consumed() {
      return consumed;
    },
  };
}
