import { availableParallelism } from 'node:os';
import { crc32 } from 'node:zlib';
import { openLibrary } from '../decode/native.js';
import { invalid } from '../refusals.js';
import { KEPT_BYTES, type ImageSource } from '../source/types.js';
import { batchMemory, createBlockReader } from './xz-batches.js';
import { MOST_MEMORY, tooMuchMemory } from './xz-tool.js';
import { padded, type XzBlock, type XzBlocks } from './xz-index.js';

/**
 * What blocks under way (compressed, decompressed, dictionary) and the one that is being read may use together, in bytes: two of
 * the blocks that `xz -T0` makes by default, even if they hold what does not compress.
 */
const MEMORY = 144 * 1024 * 1024;
const HEADER_BYTES = 12;
const FOOTER_BYTES = 12;
/** Header, footer and the largest index of one record around a block. */
const WRAPPING_BYTES = 64;
/** No reader takes a larger piece at once (`ImageSource.stream`). */
const TAIL_BYTES = KEPT_BYTES;
const STREAM_MAGIC = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]);
const LZMA_OK = 0;
/** `malloc.h`. */
const M_MMAP_THRESHOLD = -3;
const LARGE_BYTES = 4 * 1024 * 1024;
const LZMA_MEMLIMIT_ERROR = 6;

/** Decodes one whole .xz in memory: `input` into `output`, off this thread. */
type BlockDecoder = (input: Buffer, output: Buffer) => Promise<number>;

/**
 * How many blocks can be decoded at once within the memory that there is, or 0 where they are better left to the `xz` tool: one
 * block, blocks that are too large, no liblzma.
 */
export function parallelBlocks(blocks: XzBlocks): number {
  if (blocks.count < 2 || !openLibrary('lzma')) return 0;
  const { stored, plain } = largestOf(blocks);
  // presets choose blocks of three dictionaries; of a larger one no more is touched than the block fills
  const each = stored + plain + plain / 3;
  const left = MEMORY - plain - batchMemory(stored);
  return Math.max(0, Math.min(availableParallelism(), Math.floor(left / each)));
}

function largestOf(blocks: XzBlocks, first = 0): { stored: number; plain: number } {
  let [stored, plain] = [0, 0];
  for (let index = first; index < blocks.count; index += 1) {
    const { unpaddedSize, uncompressedSize } = blocks.at(index);
    stored = Math.max(stored, padded(unpaddedSize));
    plain = Math.max(plain, uncompressedSize);
  }
  return { stored, plain };
}

/** Index of the first block that holds something at or after offset `start`. */
function firstAt(blocks: XzBlocks, start: number): number {
  for (let index = 0; index < blocks.count; index += 1) {
    const { outer, uncompressedSize } = blocks.at(index);
    if (outer + uncompressedSize > start) return index;
  }
  return blocks.count;
}

/** A block on its way. */
interface Underway {
  readonly block: XzBlock;
  /** Where it is decoded to, and how much of that it fills. */
  readonly memory: Buffer;
  readonly plain: Promise<Buffer>;
}

/**
 * The bytes from offset `start` of what the blocks decompress to, `parallel` blocks ahead of the reader.
 * @throws {@link FailureType} `ImageInvalid` where a block is damaged; `UnsupportedFormat` where one takes too much memory
 */
export async function* decodeBlocks(
  source: ImageSource,
  blocks: XzBlocks,
  { start, parallel }: { readonly start: number; readonly parallel: number },
): AsyncGenerator<Buffer> {
  let next = firstAt(blocks, start);
  const { stored, plain } = largestOf(blocks, next);
  const decode = createBlockDecoder();
  const readBlock = createBlockReader(source, blocks);
  const inputs = buffers(parallel, stored + WRAPPING_BYTES);
  const outputs = buffers(parallel + 1, plain);
  const cut = createCutter(plain);
  const underway: Underway[] = [];

  function begin(index: number): Underway {
    const block = blocks.at(index);
    const input = inputs.pop() ?? Buffer.alloc(0);
    const memory = outputs.pop() ?? Buffer.alloc(0);
    const read = (target: Buffer): Promise<void> => readBlock(index, target);
    const decoded = decodeBlock({ block, read, input, memory, decode }).finally(() => inputs.push(input));
    decoded.catch(() => undefined);
    return { block, memory, plain: decoded };
  }

  function fill(): void {
    for (; next < blocks.count && inputs.length > 0 && outputs.length > 0; next += 1)
      underway.push(begin(next));
  }
  try {
    for (fill(); ; fill()) {
      const first = underway.shift();
      if (!first) return;
      const decoded = await first.plain;
      fill();
      yield* cut(decoded.subarray(Math.max(0, start - first.block.outer)));
      outputs.push(first.memory);
    }
  } finally {
    // memory that a decoder still writes to must not be collected
    await Promise.allSettled(underway.map((one) => one.plain));
  }
}

/**
 * Cuts blocks whose memory is used again when the chunk after them is done with: their ends are copies, so that a reader may hold
 * on to a piece that goes on in the next block, or in the many next ones where blocks are small. The copies lie in a ring, which
 * comes round to one only after `KEPT_BYTES` more have followed it: a gap at its end is smaller than a copy, and so are the one
 * that is kept and the one that is made.
 */
function createCutter(largest: number): (decoded: Buffer) => Generator<Buffer> {
  const ring = Buffer.allocUnsafeSlow(KEPT_BYTES + 3 * Math.min(largest, TAIL_BYTES));
  let next = 0;
  return function* cutInTwo(decoded) {
    const at = Math.max(0, decoded.length - TAIL_BYTES);
    if (at > 0) yield decoded.subarray(0, at);
    const length = decoded.length - at;
    if (next + length > ring.length) next = 0;
    const tail = ring.subarray(next, next + length);
    decoded.copy(tail, 0, at);
    next += length;
    if (length > 0) yield tail;
  };
}

/** Allocated once: memory of this size that comes and goes would be collected too late. */
function buffers(count: number, bytes: number): Buffer[] {
  return Array.from({ length: count }, () => Buffer.allocUnsafeSlow(bytes));
}

interface BlockJob {
  readonly block: XzBlock;
  /** Reads the block as it is stored. */
  readonly read: (target: Buffer) => Promise<void>;
  readonly input: Buffer;
  readonly memory: Buffer;
  readonly decode: BlockDecoder;
}

async function decodeBlock(job: BlockJob): Promise<Buffer> {
  const { inner, unpaddedSize, uncompressedSize, flags } = job.block;
  const index = indexOf(job.block);
  const blockBytes = padded(unpaddedSize);
  const input = job.input.subarray(0, HEADER_BYTES + blockBytes + index.length + FOOTER_BYTES);
  const output = job.memory.subarray(0, uncompressedSize);
  streamHeader(flags).copy(input);
  await job.read(input.subarray(HEADER_BYTES, HEADER_BYTES + blockBytes));
  index.copy(input, HEADER_BYTES + blockBytes);
  streamFooter(flags, index.length).copy(input, input.length - FOOTER_BYTES);
  const code = await job.decode(input, output);
  if (code === LZMA_OK) return output;
  if (code === LZMA_MEMLIMIT_ERROR) throw tooMuchMemory();
  throw invalid(`xz block at ${inner} is damaged (liblzma code ${code})`);
}

function streamHeader(flags: number): Buffer {
  const header = Buffer.concat([STREAM_MAGIC], HEADER_BYTES);
  header.writeUInt16BE(flags, 6);
  header.writeUInt32LE(crc32(header.subarray(6, 8)), 8);
  return header;
}

function streamFooter(flags: number, indexBytes: number): Buffer {
  const footer = Buffer.alloc(FOOTER_BYTES);
  footer.writeUInt32LE(indexBytes / 4 - 1, 4);
  footer.writeUInt16BE(flags, 8);
  footer.write('YZ', 10, 'latin1');
  footer.writeUInt32LE(crc32(footer.subarray(4, 10)), 0);
  return footer;
}

/** An index of one record: the block as a file of its own. */
function indexOf({ unpaddedSize, uncompressedSize }: XzBlock): Buffer {
  const body = Buffer.from([0, 1, ...integer(unpaddedSize), ...integer(uncompressedSize)]);
  const index = Buffer.alloc(padded(body.length) + 4);
  body.copy(index);
  index.writeUInt32LE(crc32(index.subarray(0, -4)), index.length - 4);
  return index;
}

function integer(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest];
    bytes.push((rest % 128) | 0x80);
  }
}

/**
 * Lets glibc give dictionaries back to the system when they are freed: by default it would keep one for each thread that ever
 * decoded a block (`M_MMAP_THRESHOLD` grows by itself until it is set).
 */
function returnLargeMemory(): void {
  const mallopt = openLibrary('libc')?.func('int mallopt(int, int)') as
    ((name: number, value: number) => number) | undefined;
  mallopt?.(M_MMAP_THRESHOLD, LARGE_BYTES);
}

/** liblzma's one-call decoder through koffi, which runs it on one of libuv's threads. */
function createBlockDecoder(): BlockDecoder {
  const decode = openLibrary('lzma')?.func(
    'int lzma_stream_buffer_decode(void *, uint32_t, void *, const void *, void *, size_t, void *, void *, size_t)',
  ) as { async(...args: unknown[]): void } | undefined;
  if (!decode) throw new Error('liblzma is not installed');
  returnLargeMemory();
  return async (input, output) => {
    const limit = BigUint64Array.of(BigInt(MOST_MEMORY));
    const [inputAt, outputAt] = [new BigUint64Array(1), new BigUint64Array(1)];
    const code = await new Promise<number>((resolve, reject) => {
      const done = (error: Error | null, value: number): void => (error ? reject(error) : resolve(value));
      decode.async(limit, 0, null, input, inputAt, input.length, output, outputAt, output.length, done);
    });
    // a block that holds less than its index says
    return code === LZMA_OK && Number(outputAt[0]) !== output.length ? -1 : code;
  };
}
