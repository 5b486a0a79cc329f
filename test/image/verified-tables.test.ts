import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { failureTypeOf } from '../../activities/failures.js';
import { convertFile } from './support/convert.js';
import { MIB, qemuImg, qemuIo, sha256, useDirectory } from './support/images.js';

const CLUSTER = 4096;
const BYTES = 8 * MIB;

describe('tables by range of a qcow2 with a checksum', () => {
  const directory = useDirectory();
  let image = '';
  let l1 = 0;
  let l2 = 0;

  before(() => {
    image = `${directory()}/worn.qcow2`;
    qemuImg('create', '-f', 'qcow2', '-o', `cluster_size=${CLUSTER}`, image, `${BYTES}`);
    qemuIo(image, 'qcow2', 'write -P 0x41 0 4M', 'write -P 0x42 4M 4M');
    qemuImg('snapshot', '-c', 's', image);
    qemuIo(image, 'qcow2', 'write -P 0x43 0 64k');
    const file = readFileSync(image);
    l1 = Number(file.readBigUInt64BE(40));
    l2 = Number(file.readBigUInt64BE(l1) & 0x00ff_ffff_ffff_fe00n);
  });

  async function convert(name: string, spoilRange?: (start: number, target: Uint8Array) => void) {
    const target = `${directory()}/${name}.img`;
    const checksum = `sha256:${sha256(image)}`;
    const more = spoilRange ? { spoilRange } : {};
    const result = await convertFile(image, target, { usableBytes: BYTES, checksum, ...more });
    assert.equal(result.checksum, checksum);
    return target;
  }

  /** Swaps two entries of the table at `table`, in whatever range it is served. */
  function swap(
    table: number,
    entries: readonly [number, number],
  ): (start: number, bytes: Uint8Array) => void {
    return (start, bytes) => {
      const [one, other] = entries.map((entry) => table - start + entry * 8) as [number, number];
      if (one < 0 || other + 8 > bytes.length) return;
      const kept = Uint8Array.from(bytes.subarray(one, one + 8));
      bytes.set(bytes.subarray(other, other + 8), one);
      bytes.set(kept, other);
    };
  }

  it('place the data as they are in the file', async () => {
    const expected = `${directory()}/expected.raw`;
    qemuImg('convert', '-O', 'raw', image, expected);
    assert.equal(sha256(await convert('right')), sha256(expected));
  });

  for (const [what, at, entries] of [
    ['an L2 table', () => l2, [0, 20]],
    ['the L1 table', () => l1, [0, 3]],
  ] as const)
    it(`are refused where ${what} is another one than in the bytes that are verified`, async () => {
      await assert.rejects(convert(what.replace(/ /g, '-'), swap(at(), entries)), (error: Error) => {
        assert.equal(failureTypeOf(error), 'ChecksumMismatch', String(error));
        assert.match(error.message, /served by range as the (L2 table in cluster \d+|L1 table) of the qcow2/);
        return true;
      });
    });
});
