import { constants, inflateRawSync, zstdDecompressSync } from 'node:zlib';
import { openLibrary } from './native.js';
import { zstdFrameBytes } from './zstd-frame.js';

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
  return (input, output) => {
    const frame = signed(frameSize(input, input.length));
    if (frame < 0 || frame > input.length) return 'damaged';
    const produced = signed(decompress(context, output, output.length, input, frame));
    if (produced < 0) return produced === -ZSTD_DST_TOO_SMALL ? 'overflow' : 'damaged';
    return produced === output.length ? 'ok' : 'short';
  };
}

/** `ZSTD_error_dstSize_tooSmall` (`zstd_errors.h`). */
const ZSTD_DST_TOO_SMALL = 70;

/** zstd returns errors as negative codes in a `size_t`. */
function signed(size: number | bigint): number {
  return Number(BigInt.asIntN(64, BigInt(size)));
}

function nodeInflate(input: Uint8Array, output: Uint8Array): DecodeOutcome {
  return copied(output, (limit) =>
    inflateRawSync(input, {
      chunkSize: limit,
      maxOutputLength: limit,
      finishFlush: constants.Z_SYNC_FLUSH,
    }),
  );
}

function nodeZstd(input: Uint8Array, output: Uint8Array): DecodeOutcome {
  const frame = zstdFrameBytes(input);
  if (frame === undefined) return 'damaged';
  return copied(output, (limit) =>
    zstdDecompressSync(input.subarray(0, frame), { chunkSize: limit, maxOutputLength: limit }),
  );
}

function copied(output: Uint8Array, decode: (limit: number) => Buffer): DecodeOutcome {
  try {
    const plain = decode(output.length);
    if (plain.length !== output.length) return 'short';
    output.set(plain);
    return 'ok';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE' ? 'overflow' : 'damaged';
  }
}
