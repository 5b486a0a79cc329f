import { createHash, type Hash } from 'node:crypto';
import { permanentFailure } from '../../failures.js';

/** Algorithms that the OCI image specification registers, with the number of their hex characters. */
const HEX_LENGTHS = { sha256: 64, sha512: 128 } as const;

/** The name of a content: `sha256:<hex>`. */
export interface ContentDigest {
  readonly algorithm: keyof typeof HEX_LENGTHS;
  readonly hex: string;
  /** `algorithm:hex`. */
  readonly text: string;
}

/** Reads a digest as OCI writes it; `undefined` for anything else. */
export function parseDigest(text: string): ContentDigest | undefined {
  const [, algorithm, hex] = /^(sha256|sha512):([0-9a-f]{1,128})$/u.exec(text) ?? [];
  if (algorithm !== 'sha256' && algorithm !== 'sha512') return undefined;
  if (hex?.length !== HEX_LENGTHS[algorithm]) return undefined;
  return { algorithm, hex, text };
}

/** A hash that computes a digest of the algorithm of `digest`, which was checked for its form. */
export function hashFor(digest: string): Hash {
  return createHash(digest.slice(0, digest.indexOf(':')));
}

/**
 * Holds bytes to their name.
 * @throws {@link FailureType} `ChecksumMismatch`
 */
export function verifyBytes(bytes: Buffer, digest: string, what: string): void {
  requireDigest(hashFor(digest).update(bytes), digest, what);
}

/**
 * Compares what was computed with what was promised.
 * @throws {@link FailureType} `ChecksumMismatch`
 */
export function requireDigest(hash: Hash, digest: string, what: string): void {
  const calculated = `${digest.slice(0, digest.indexOf(':'))}:${hash.digest('hex')}`;
  if (calculated === digest) return;
  throw permanentFailure('ChecksumMismatch', `${what}: expected ${digest}, calculated ${calculated}`);
}
