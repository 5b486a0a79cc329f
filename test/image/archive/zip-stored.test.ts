import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { FailureType } from '../../../activities/types.js';
import { failureTypeOf } from '../../../activities/failures.js';
import { convertFile } from '../support/convert.js';
import { makePatterned, MIB, qemuImg, qemuIo, sha256, useDirectory } from '../support/images.js';

/** What a disk is stored as: made from a raw file, by file names. */
const FORMATS: Record<string, (raw: string, image: string) => void> = {
  raw: (raw, image) => writeFileSync(image, readFileSync(raw)),
  qcow2: (raw, image) => qemuImg('convert', '-O', 'qcow2', raw, image),
  'qcow2 with a snapshot, and tables behind 20 MiB of data': (raw, image) => {
    qemuImg('convert', '-O', 'qcow2', raw, image);
    qemuImg('snapshot', '-c', 'before', image);
    // the copies of the tables come after the clusters
    qemuIo(image, 'qcow2', 'write -P 9 3M 64k');
    const content = readFileSync(raw);
    content.fill(9, 3 * MIB, 3 * MIB + 65_536);
    writeFileSync(raw, content);
  },
  vmdk: (raw, image) => qemuImg('convert', '-O', 'vmdk', raw, image),
  vhd: (raw, image) => qemuImg('convert', '-O', 'vpc', '-o', 'subformat=fixed,force_size', raw, image),
  'raw.gz': (raw, image) => writeFileSync(image, execFileSync('gzip', ['-1c', raw], { maxBuffer: 64 * MIB })),
  'raw.xz': (raw, image) =>
    writeFileSync(
      image,
      execFileSync('xz', ['-0', '-c', '--check=none', '--block-size=1MiB', raw], { maxBuffer: 64 * MIB }),
    ),
};

describe('an image that a zip only stores', function () {
  this.timeout(60_000);
  const directory = useDirectory();

  for (const [format, make] of Object.entries(FORMATS)) {
    it(`${format}: is the same disk, without scratch space`, async () => {
      const { raw, zip } = stored(format, make);
      for (const ranges of format.startsWith('qcow2 with') || format === 'vmdk' ? [true] : [true, false]) {
        const target = `${raw}.${ranges}`;
        const result = await convertFile(zip, target, { usableBytes: Infinity, fit: true, ranges });
        assert.equal(sha256(target), sha256(raw), `ranges: ${ranges}`);
        assert.equal(result.scratchBytes ?? 0, 0);
      }
    });

    it(`${format}: a changed byte is found by the CRC-32 of the whole, wherever it is`, async () => {
      const { raw, zip } = stored(format, make);
      const content = readFileSync(zip);
      const at = content.length >>> 1;
      content.writeUInt8(content.readUInt8(at) ^ 1, at);
      writeFileSync(zip, content);
      for (const ranges of [true, false])
        await assert.rejects(
          convertFile(zip, `${raw}.refused`, {
            usableBytes: Infinity,
            fit: true,
            ranges,
            scratch: directory(),
          }),
          refusedFor('ImageInvalid', /crc32|damaged|corrupt|CRC/i),
          `ranges: ${ranges}`,
        );
    });
  }

  function stored(format: string, make: (raw: string, image: string) => void): { raw: string; zip: string } {
    const name = `${directory()}/${format.replaceAll(/\W+/g, '-')}`;
    const raw = makePatterned(`${name}.raw`, 24);
    const zip = `${name}.zip`;
    make(raw, `${name}.image`);
    rmSync(zip, { force: true });
    execFileSync('zip', ['-0', '-q', '-j', zip, `${name}.image`]);
    return { raw, zip };
  }

  function refusedFor(type: FailureType, message: RegExp): (error: Error) => boolean {
    return (error) => {
      assert.equal(failureTypeOf(error), type, error.stack);
      assert.match(error.message, message);
      return true;
    };
  }
});
