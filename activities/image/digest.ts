import { createHash, type Hash } from 'node:crypto';
import { permanentFailure } from '../failures.js';
import { parseChecksum } from './source/checksum.js';
import type { SparseWriter } from './writer.js';

const READ_BACK = 4 * 1024 * 1024;

/** Watches the bytes of a source go by. */
export interface Tap {
  /** The same bytes. Ending early leaves the source open for `finish`. */
  readonly bytes: AsyncIterable<Buffer>;
  /** Bytes that went by. */
  readonly position: number;
  /** Reads the source to its true end, then judges the checksum, if there is one. @throws {@link FailureType} `ChecksumMismatch` */
  finish(): Promise<string | undefined>;
  /** Ends the source early. */
  close(): Promise<void>;
}

/** A tap on `source`; with `checksum` (`algorithm:hex`) it hashes, beginning with what `hash` has seen already. */
export function createTap(
  source: AsyncIterable<Buffer>,
  checksum: string | undefined,
  hash = newHash(checksum),
): Tap {
  const iterator = source[Symbol.asyncIterator]();
  let position = 0;

  async function* bytes(): AsyncGenerator<Buffer> {
    for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
      position += next.value.length;
      hash?.update(next.value);
      yield next.value;
    }
  }

  async function finish(): Promise<string | undefined> {
    for await (const _ of bytes()) continue;
    return hash && checksum ? judge(checksum, hash) : undefined;
  }

  return {
    bytes: { [Symbol.asyncIterator]: bytes },
    get position() {
      return position;
    },
    finish,
    close: async () => void (await iterator.return?.()),
  };
}

/** A digest for a checksum's algorithm. */
export function newHash(checksum: string | undefined): Hash | undefined {
  return checksum ? createHash(parseChecksum(checksum).algorithm) : undefined;
}

/** Feeds a digest with the first `bytes` of the target: a raw disk on stable storage is its own source. */
export async function hashTarget(hash: Hash, writer: SparseWriter, bytes: number): Promise<void> {
  const memory = Buffer.allocUnsafeSlow(READ_BACK);
  for (let at = 0; at < bytes; at += READ_BACK) {
    const piece = memory.subarray(0, Math.min(READ_BACK, bytes - at));
    await writer.read(at, piece);
    hash.update(piece);
  }
}

function judge(checksum: string, hash: Hash): string {
  const { algorithm, hex } = parseChecksum(checksum);
  const calculated = hash.digest('hex');
  if (calculated !== hex)
    throw permanentFailure(
      'ChecksumMismatch',
      `checksum mismatch: expected ${algorithm}:${hex}, calculated ${algorithm}:${calculated}`,
    );
  return `${algorithm}:${calculated}`;
}
