import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { permanentFailure } from '../../activities/failures.js';
import { gunzip } from '../../activities/image/layers/gzip.js';
import { unxz } from '../../activities/image/layers/xz-tool.js';
import { unzstd } from '../../activities/image/layers/zstd.js';
import { convertFile } from './support/convert.js';
import { makeRaw, MIB, useDirectory } from './support/images.js';
import { refusal } from './support/refused.js';

describe('a source that fails after its last byte', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  const decompressors = { gzip: gunzip, zstd: unzstd, xz: unxz };

  /** All bytes, and after a while that their digest is another one. */
  async function* judgedLate(bytes: Buffer): AsyncGenerator<Buffer> {
    yield bytes;
    await pause(100);
    throw permanentFailure('ChecksumMismatch', 'another digest');
  }

  for (const [tool, decompress] of Object.entries(decompressors)) {
    it(`is not taken for good by the decoder of ${tool}, which is done by then`, async () => {
      const packed = execFileSync(tool, ['-1c'], { input: Buffer.alloc(100_000, 'text') });
      await assert.rejects(
        async () => {
          for await (const _ of decompress(judgedLate(packed))) continue;
        },
        refusal('ChecksumMismatch', /another digest/),
      );
    });

    it(`is refused by its checksum around a small image in ${tool}`, async () => {
      const raw = makeRaw(`${directory()}/disk.raw`, MIB);
      const packed = `${directory()}/disk.${tool}`;
      execFileSync('sh', [
        '-c',
        `tar -C "$(dirname "$1")" -cf - disk.raw | ${tool} -1c > "$2"`,
        'sh',
        raw,
        packed,
      ]);
      const target = `${packed}.out`;
      const options = {
        usableBytes: MIB,
        ranges: false,
        chunk: 4 * MIB,
        checksum: `sha512:${'0'.repeat(128)}`,
      };
      await assert.rejects(
        convertFile(packed, target, options),
        refusal('ChecksumMismatch', /expected sha512:0/),
      );
      assert.equal(readFileSync(target).length, 0);
    });
  }
});
