import type * as Zlib from 'node:zlib';
import { openLibrary } from './native.js';
import { zstdFrame } from './zstd-frame.js';

/** Compression of a qcow2's clusters. */
export type ClusterCompression = 'zlib' | 'zstd';

/** What became of one cluster: `short` filled less than the output, `overflow` had more than fits, `damaged` is no such stream. */
export type DecodeOutcome = 'ok' | 'short' | 'overflow' | 'damaged';

/**
 * Decodes one compressed cluster into `output`, all of it. `input` may hold sector padding or neighbours after the stream.
 * Both may be shared memory; nothing outside of them is read or written.
 */
export type ClusterDecoder = (input: Uint8Array, output: Uint8Array) => DecodeOutcome;

/**
 * The fastest decoder that this machine has: the distribution's library through koffi, else Node's public zlib, which allocates
 * a stream for each cluster. `native` false: the latter, for tests.
 */
export function createClusterDecoder(compression: ClusterCompression, native = true): ClusterDecoder {
  const library = native ? (compression === 'zstd' ? nativeZstd() : nativeDeflate()) : undefined;
  return library ?? (compression === 'zstd' ? nodeZstd : nodeInflate);
}

/** libdeflate's `enum libdeflate_result`. */
const LIBDEFLATE_SUCCESS = 0;
const LIBDEFLATE_INSUFFICIENT_SPACE = 3;

function nativeDeflate(): ClusterDecoder | undefined {
  const library = openLibrary('deflate');
  if (!library) return undefined;
  const allocate = library.func('void *libdeflate_alloc_decompressor(void)') as () => unknown;
  const decompress = library.func(
    'int libdeflate_deflate_decompress_ex(void *, const void *, size_t, void *, size_t, void *, void *)',
  ) as (...args: unknown[]) => number;
  const decompressor = allocate();
  const [consumed, produced] = [new BigUint64Array(1), new BigUint64Array(1)];
  return (input, output) => {
    const { length } = output;
    const result = decompress(decompressor, input, input.length, output, length, consumed, produced);
    if (result === LIBDEFLATE_INSUFFICIENT_SPACE) return 'overflow';
    if (result !== LIBDEFLATE_SUCCESS) return 'damaged';
    return Number(produced[0]) === length ? 'ok' : 'short';
  };
}

function nativeZstd(): ClusterDecoder | undefined {
  const library = openLibrary('zstd');
  if (!library) return undefined;
  const create = library.func('void *ZSTD_createDCtx(void)') as () => unknown;
  const frameSize = library.func('size_t ZSTD_findFrameCompressedSize(const void *, size_t)') as (
    ...args: unknown[]
  ) => number | bigint;
  const decompress = library.func(
    'size_t ZSTD_decompressDCtx(void *, void *, size_t, const void *, size_t)',
  ) as (...args: unknown[]) => number | bigint;
  const context = create();
  return (input, output) =>
    frameByFrame(input, output, (rest, free) => {
      const frame = signed(frameSize(rest, rest.length));
      if (frame <= 0 || frame > rest.length) return 'damaged';
      const produced = signed(decompress(context, free, free.length, rest, frame));
      if (produced < 0) return produced === -ZSTD_DST_TOO_SMALL ? 'overflow' : 'damaged';
      return { frame, produced };
    });
}

/** Decodes one frame; tells its length, and that of what it has made at the start of `free`. */
type FrameDecoder = (
  rest: Uint8Array,
  free: Uint8Array,
) => { readonly frame: number; readonly produced: number } | Exclude<DecodeOutcome, 'ok' | 'short'>;

/** A cluster may consist of several frames (QEMU's `qcow2_zstd_decompress`); what follows the last one is padding or a neighbour. */
function frameByFrame(input: Uint8Array, output: Uint8Array, decode: FrameDecoder): DecodeOutcome {
  for (let [at, filled] = [0, 0]; ;) {
    const done = decode(
      at === 0 ? input : input.subarray(at),
      filled === 0 ? output : output.subarray(filled),
    );
    // after a whole frame, padding is the end of the cluster
    if (typeof done === 'string') return at > 0 && done === 'damaged' ? 'short' : done;
    at += done.frame;
    filled += done.produced;
    if (filled === output.length) return 'ok';
    if (at >= input.length) return 'short';
  }
}

/** `ZSTD_error_dstSize_tooSmall` (`zstd_errors.h`). */
const ZSTD_DST_TOO_SMALL = 70;

/** zstd returns errors as negative codes in a `size_t`. */
function signed(size: number | bigint): number {
  return Number(BigInt.asIntN(64, BigInt(size)));
}

/** Node's module when it is needed: it takes a thread 5 ms to load. */
const zlib = (): typeof Zlib => process.getBuiltinModule('node:zlib');

function nodeInflate(input: Uint8Array, output: Uint8Array): DecodeOutcome {
  const { constants, inflateRawSync } = zlib();
  const limit = output.length;
  const plain = decoded(() =>
    inflateRawSync(input, {
      chunkSize: limit,
      maxOutputLength: limit,
      finishFlush: constants.Z_SYNC_FLUSH,
    }),
  );
  if (typeof plain === 'string') return plain;
  if (plain.length !== limit) return 'short';
  output.set(plain);
  return 'ok';
}

function nodeZstd(input: Uint8Array, output: Uint8Array): DecodeOutcome {
  const { zstdDecompressSync } = zlib();
  return frameByFrame(input, output, (rest, free) => {
    const frame = zstdFrame(rest)?.bytes;
    if (frame === undefined) return 'damaged';
    const limit = free.length;
    const plain = decoded(() =>
      zstdDecompressSync(rest.subarray(0, frame), { chunkSize: limit, maxOutputLength: limit }),
    );
    if (typeof plain === 'string') return plain;
    free.set(plain);
    return { frame, produced: plain.length };
  });
}

function decoded(decode: () => Buffer): Buffer | 'overflow' | 'damaged' {
  try {
    return decode();
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE' ? 'overflow' : 'damaged';
  }
}
