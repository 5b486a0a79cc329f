import assert from 'node:assert/strict';
import { parseChecksum } from '../../../activities/image/source/checksum.js';
import { failureTypeOf } from '../../../activities/failures.js';

const HEX = 'd41d8cd98f00b204e9800998ecf8427e';

describe('checksum of a DataVolume', () => {
  for (const [algorithm, length] of [
    ['md5', 32],
    ['sha1', 40],
    ['sha256', 64],
    ['sha512', 128],
  ] as const) {
    it(`takes ${algorithm} in any case, with blanks around`, () => {
      const hex = 'aB'.repeat(length / 2);
      assert.deepEqual(parseChecksum(` ${algorithm.toUpperCase()} : ${hex} `), {
        algorithm,
        hex: hex.toLowerCase(),
      });
    });
  }

  for (const [text, message] of [
    ['', "invalid checksum format: expected 'algorithm:hash', got ''"],
    [HEX, `invalid checksum format: expected 'algorithm:hash', got '${HEX}'`],
    ['md5:', 'checksum hash value cannot be empty'],
    ['md5:  ', 'checksum hash value cannot be empty'],
    [`md4:${HEX}`, "unsupported hash algorithm 'md4': supported algorithms are: md5, sha1, sha256, sha512"],
    [
      `toString:${HEX}`,
      "unsupported hash algorithm 'tostring': supported algorithms are: md5, sha1, sha256, sha512",
    ],
    [`sha256:${HEX}`, 'invalid sha256 hash length: expected 64 hex characters, got 32'],
    [`md5:${HEX.slice(1)}g`, "checksum hash is not valid hexadecimal: invalid character 'g' at 31"],
    ['md5:a:b', "invalid checksum format: expected 'algorithm:hash', got 'md5:a:b'"],
  ] as const) {
    it(`refuses ${JSON.stringify(text)} in CDI's words`, () => {
      assert.throws(
        () => parseChecksum(text),
        (error: Error) => error.message === message && failureTypeOf(error) === 'InvalidDataVolume',
      );
    });
  }
});
