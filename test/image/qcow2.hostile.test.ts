import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { l1Offset, QCOW2_LIES } from './qcow2-lies.js';
import { assertRefused } from './support/refused.js';
import { makeRaw, MIB, qemuImg, useDirectory } from './support/images.js';

/** Lies whose proof needs the file's length, which a stream tells only at its end. */
const CUT_SHORT_BY_STREAM = new Set(['an L1 table beyond the file', 'an L1 entry outside the file']);

describe('hostile qcow2 images', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  const usableBytes = 8 * MIB;
  let raw = '';
  let honest: Buffer;
  let count = 0;
  const target = (): string => `${directory()}/target-${(count += 1)}.img`;

  function write(content: Buffer | string, suffix = 'qcow2'): string {
    const path = `${directory()}/image-${(count += 1)}.${suffix}`;
    writeFileSync(path, content);
    return path;
  }

  before(() => {
    raw = makeRaw(`${directory()}/disk.raw`, 8 * MIB);
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, `${directory()}/honest.qcow2`);
    honest = readFileSync(`${directory()}/honest.qcow2`);
  });

  for (const { name, edit, type, message } of QCOW2_LIES) {
    it(`refuses ${name}, by ranges and in a stream, before anything is allocated`, async () => {
      const image = Buffer.from(honest);
      edit(image);
      const path = write(image);
      const out = target();
      await assertRefused(path, out, { usableBytes }, type, message);
      const tables = /L2|cluster on|unaligned cluster/.test(name);
      if (!tables) assert.equal(statSync(out).size, 0);
      const packed = write(gzipSync(image, { level: 1 }), 'gz');
      if (name === 'an L1 table beyond the file')
        return assertRefused(
          packed,
          target(),
          { usableBytes },
          'ScratchSpaceRequired',
          /L1 table is at 1099511627776/,
        );
      if (CUT_SHORT_BY_STREAM.has(name))
        return assertRefused(packed, target(), { usableBytes }, 'ImageInvalid', /cut short/);
      await assertRefused(packed, target(), { usableBytes }, type, message);
    });
  }

  it('refuses two L1 entries that share a table', async () => {
    const path = `${directory()}/two.qcow2`;
    qemuImg('create', '-f', 'qcow2', '-o', 'cluster_size=4k', path, '8M');
    execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write 0 4M', path]);
    const image = readFileSync(path);
    image.copy(image, l1Offset(image) + 8, l1Offset(image), l1Offset(image) + 8);
    await assertRefused(write(image), target(), { usableBytes }, 'ImageHostile', /two L1 entries name/);
  });
});
