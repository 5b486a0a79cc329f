import { constants, inflateRawSync, zstdDecompressSync } from 'node:zlib';
import { hostile, invalid } from '../../refusals.js';
import type { Qcow2Header } from './header.js';

const ZSTD_MAGIC = 0xfd2fb528;

/** Decodes one compressed cluster; `stored` may hold sector padding or neighbours after it. The result is one cluster. */
export function decodeCluster(header: Qcow2Header, guest: number, stored: Buffer): Buffer {
  const plain = header.compression === 'zstd' ? zstd(header, guest, stored) : inflate(header, guest, stored);
  if (plain.length !== header.clusterSize)
    throw invalid(
      `qcow2 compressed cluster of guest offset ${guest} holds ${plain.length} bytes, ${header.clusterSize} expected`,
    );
  return plain;
}

function inflate({ clusterSize }: Qcow2Header, guest: number, stored: Buffer): Buffer {
  return bounded(guest, clusterSize, () =>
    inflateRawSync(stored, {
      chunkSize: clusterSize,
      maxOutputLength: clusterSize,
      finishFlush: constants.Z_SYNC_FLUSH,
    }),
  );
}

function zstd({ clusterSize }: Qcow2Header, guest: number, stored: Buffer): Buffer {
  const frame = stored.subarray(0, frameLength(stored, guest));
  return bounded(guest, clusterSize, () =>
    zstdDecompressSync(frame, { chunkSize: clusterSize, maxOutputLength: clusterSize }),
  );
}

function bounded(guest: number, clusterSize: number, decode: () => Buffer): Buffer {
  try {
    return decode();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE')
      throw hostile(
        `qcow2 compressed cluster of guest offset ${guest} expands beyond its ${clusterSize} bytes`,
        error,
      );
    throw invalid(`qcow2 compressed cluster of guest offset ${guest} is damaged`, error);
  }
}

/** Bytes of the zstd frame at the start (RFC 8878 §3.1.1): padding after it would be an error to the decoder. */
function frameLength(stored: Buffer, guest: number): number {
  const fail = (): Error => invalid(`qcow2 compressed cluster of guest offset ${guest} is no zstd frame`);
  const byte = (at: number): number => {
    const value = stored[at];
    if (value === undefined) throw fail();
    return value;
  };
  if (stored.length < 6 || stored.readUInt32LE(0) !== ZSTD_MAGIC) throw fail();
  const descriptor = byte(4);
  const single = (descriptor >> 5) & 1;
  const contentSize = descriptor >> 6;
  const contentBytes = contentSize === 0 ? single : 2 ** contentSize;
  let at = 5 + (single ? 0 : 1) + ([0, 1, 2, 4][descriptor & 3] ?? 0) + contentBytes;
  for (let block = 0; !(block & 1);) {
    block = byte(at) | (byte(at + 1) << 8) | (byte(at + 2) << 16);
    // type 1 is one repeated byte
    at += 3 + (((block >> 1) & 3) === 1 ? 1 : block >> 3);
  }
  at += (descriptor >> 2) & 1 ? 4 : 0;
  if (at > stored.length) throw fail();
  return at;
}
