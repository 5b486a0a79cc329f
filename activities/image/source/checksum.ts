import { permanentFailure } from '../../failures.js';

/** Digests that a DataVolume may name, with the number of their hex characters. */
const HEX_LENGTHS = { md5: 32, sha1: 40, sha256: 64, sha512: 128 } as const;

/** A digest algorithm that the `checksum` of a source may name. */
export type ChecksumAlgorithm = keyof typeof HEX_LENGTHS;

/** A checksum that has the right form; `hex` is lower case. */
export interface Checksum {
  readonly algorithm: ChecksumAlgorithm;
  readonly hex: string;
}

/**
 * Reads `algorithm:hex` as CDI's `pkg/util/checksum` does: algorithm and digest in any case, blanks around them ignored.
 *
 * @throws `InvalidDataVolume` with CDI's texts.
 */
export function parseChecksum(text: string): Checksum {
  const parts = text.split(':').map((part) => part.trim().toLowerCase());
  const [algorithm = '', hex = ''] = parts;
  if (parts.length !== 2) throw invalid(`invalid checksum format: expected 'algorithm:hash', got '${text}'`);
  if (hex === '') throw invalid('checksum hash value cannot be empty');
  if (!isAlgorithm(algorithm)) {
    throw invalid(
      `unsupported hash algorithm '${algorithm}': supported algorithms are: ${Object.keys(HEX_LENGTHS).join(', ')}`,
    );
  }
  const expected = HEX_LENGTHS[algorithm];
  if (hex.length !== expected) {
    throw invalid(`invalid ${algorithm} hash length: expected ${expected} hex characters, got ${hex.length}`);
  }
  const stray = /[^0-9a-f]/u.exec(hex);
  if (stray) {
    throw invalid(
      `checksum hash is not valid hexadecimal: invalid character '${stray[0]}' at ${stray.index}`,
    );
  }
  return { algorithm, hex };
}

function isAlgorithm(name: string): name is ChecksumAlgorithm {
  return Object.hasOwn(HEX_LENGTHS, name);
}

function invalid(message: string): Error {
  return permanentFailure('InvalidDataVolume', message);
}
