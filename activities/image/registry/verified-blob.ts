import { createHash } from 'node:crypto';
import { permanentFailure } from '../../failures.js';
import { parseChecksum } from '../source/checksum.js';
import { hashFor, requireDigest } from './content-digest.js';
import type { Descriptor } from './manifest.js';

/** The bytes of a blob on their way to who reads it, and the proof that they are what its digest names. */
export interface VerifiedBlob {
  /** The bytes as they are served. Ending early leaves the blob open for `finish`. */
  readonly bytes: AsyncIterable<Buffer>;
  /**
   * Reads what nobody asked for, then judges all of it.
   * @throws {@link FailureType} `ChecksumMismatch`
   */
  finish(): Promise<void>;
  /** Compares the blob, finished before, with the checksum that the user gave. @throws {@link FailureType} `ChecksumMismatch` */
  requireChecksum(): void;
  /** Ends reading. */
  close(): Promise<void>;
}

/** What a blob is held to. */
export interface Promised {
  readonly descriptor: Descriptor;
  /** `algorithm:hex` of the blob as the user has it. */
  readonly checksum: string | undefined;
  /** `layer 2 of docker://…`, for messages. */
  readonly what: string;
}

/** Watches the bytes of one blob go by. A blob that is longer than it may be is refused at the first byte too many. */
export function verifyBlob(
  source: AsyncIterable<Buffer>,
  { descriptor, checksum, what }: Promised,
): VerifiedBlob {
  const { digest, size } = descriptor;
  const iterator = source[Symbol.asyncIterator]();
  const hash = hashFor(digest);
  const users = checksum === undefined ? undefined : createUsersHash(checksum);
  let position = 0;
  let last: Promise<unknown> = Promise.resolve();

  async function pullNow(): Promise<Buffer | undefined> {
    const next = await iterator.next();
    if (next.done) return undefined;
    position += next.value.length;
    if (position > size) throw lengthMismatch('more');
    hash.update(next.value);
    users?.hash.update(next.value);
    return next.value;
  }

  /** A decoder that was ended may have a read under way: the next one waits for it. After a failure there is no next one. */
  async function pull(): Promise<Buffer | undefined> {
    const mine = last.then(pullNow);
    mine.catch(() => undefined);
    last = mine;
    return await mine;
  }

  async function* bytes(): AsyncGenerator<Buffer> {
    for (let chunk = await pull(); chunk; chunk = await pull()) yield chunk;
  }

  function lengthMismatch(served: number | 'more'): Error {
    return permanentFailure(
      'ChecksumMismatch',
      `${what}: ${digest} has ${size} bytes, ${served} were served`,
    );
  }

  return {
    bytes: { [Symbol.asyncIterator]: bytes },
    async finish() {
      while (await pull()) continue;
      if (position !== size) throw lengthMismatch(position);
      requireDigest(hash, digest, what);
    },
    requireChecksum() {
      if (users) requireDigest(users.hash, users.text, `checksum mismatch of ${what}, which holds the disk`);
    },
    close: async () => void (await iterator.return?.()),
  };
}

function createUsersHash(checksum: string): { hash: ReturnType<typeof createHash>; text: string } {
  const { algorithm, hex } = parseChecksum(checksum);
  return { hash: createHash(algorithm), text: `${algorithm}:${hex}` };
}
