import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { assertRefused } from './support/refused.js';
import { makeRaw, MIB, qemuImg, useDirectory } from './support/images.js';

const CLUSTER = 65_536;
const L1_ENTRY = 40;
const REFCOUNT_TABLE = 48;
const DATA_MASK = 0x00ff_ffff_ffff_fe00n;

/** Changes bytes of an image file. */
type Edit = (image: Buffer) => void;

const l1Offset = (image: Buffer): number => Number(image.readBigUInt64BE(L1_ENTRY));
const firstL2 = (image: Buffer): number => Number(image.readBigUInt64BE(l1Offset(image)) & DATA_MASK);
const setFeature =
  (bit: number): Edit =>
  (image) =>
    image.writeBigUInt64BE(image.readBigUInt64BE(72) | (1n << BigInt(bit)), 72);

/** Each lie by name: how it is told, how it is refused. */
const LIES: readonly { name: string; edit: Edit; type: string; message: RegExp }[] = [
  {
    name: 'a backing file',
    edit: (image) => image.writeBigUInt64BE(512n, 8) && image.writeUInt32BE(11, 16),
    type: 'ImageHostile',
    message: /backing file/,
  },
  { name: 'an external data file', edit: setFeature(2), type: 'ImageHostile', message: /external data file/ },
  {
    name: 'AES encryption',
    edit: (image) => image.writeUInt32BE(1, 32),
    type: 'UnsupportedFormat',
    message: /encrypted \(method 1\)/,
  },
  {
    name: 'unknown features',
    edit: (image) => (setFeature(7)(image), setFeature(40)(image)),
    type: 'UnsupportedFormat',
    message: /bits 7, 40/,
  },
  { name: 'the corrupt bit', edit: setFeature(1), type: 'ImageInvalid', message: /marked corrupt/ },
  {
    name: 'version 1',
    edit: (image) => image.writeUInt32BE(1, 4),
    type: 'UnsupportedFormat',
    message: /version 1/,
  },
  {
    name: 'clusters of 128 bytes',
    edit: (image) => image.writeUInt32BE(7, 20),
    type: 'ImageInvalid',
    message: /cluster_bits 7/,
  },
  {
    name: 'clusters of 2^31 bytes',
    edit: (image) => image.writeUInt32BE(31, 20),
    type: 'ImageInvalid',
    message: /cluster_bits 31/,
  },
  {
    name: 'an L1 table of 32 GiB',
    edit: (image) => image.writeUInt32BE(0xffff_ffff, 36),
    type: 'ImageHostile',
    message: /L1 table has 34359738360 bytes/,
  },
  {
    name: 'an L1 table too small for the disk',
    edit: (image) => image.writeUInt32BE(0, 36),
    type: 'ImageInvalid',
    message: /L1 table has 0 entries/,
  },
  {
    name: 'an L1 table beyond the file',
    edit: (image) => image.writeBigUInt64BE(1n << 40n, L1_ENTRY),
    type: 'ImageInvalid',
    message: /L1 table ends at 1099511627784/,
  },
  {
    name: 'an L1 table beyond 2^53',
    edit: (image) => image.writeBigUInt64BE(1n << 60n, L1_ENTRY),
    type: 'ImageHostile',
    message: /beyond 2\^53/,
  },
  {
    name: 'an L1 table on the header',
    edit: (image) => image.writeBigUInt64BE(0n, L1_ENTRY),
    type: 'ImageHostile',
    message: /overlaps the header/,
  },
  {
    name: 'an L1 table on the refcount table',
    edit: (image) => image.writeBigUInt64BE(image.readBigUInt64BE(REFCOUNT_TABLE), L1_ENTRY),
    type: 'ImageHostile',
    message: /overlaps the refcount table/,
  },
  {
    name: 'an unaligned L1 table',
    edit: (image) => image.writeBigUInt64BE(image.readBigUInt64BE(L1_ENTRY) + 512n, L1_ENTRY),
    type: 'ImageInvalid',
    message: /not aligned/,
  },
  {
    name: 'a refcount table of 256 TiB',
    edit: (image) => image.writeUInt32BE(0xffff_ffff, 56),
    type: 'ImageHostile',
    message: /refcount table has/,
  },
  {
    name: 'no refcount table',
    edit: (image) => image.writeUInt32BE(0, 56),
    type: 'ImageInvalid',
    message: /no refcount table/,
  },
  {
    name: 'refcounts of 2^9 bits',
    edit: (image) => image.writeUInt32BE(9, 96),
    type: 'ImageInvalid',
    message: /refcount_order 9/,
  },
  {
    name: '2^31 snapshots',
    edit: (image) => image.writeUInt32BE(0x7fff_ffff, 60),
    type: 'ImageHostile',
    message: /2147483647 snapshots/,
  },
  {
    name: 'a header of 1 GiB',
    edit: (image) => image.writeUInt32BE(2 ** 30, 100),
    type: 'ImageInvalid',
    message: /header_length 1073741824/,
  },
  {
    name: 'an unknown compression',
    edit: (image) => (setFeature(3)(image), void (image[104] = 9)),
    type: 'UnsupportedFormat',
    message: /compression type 9/,
  },
  {
    name: 'an L1 entry that names the L1 table',
    edit: (image) => image.writeBigUInt64BE(BigInt(l1Offset(image)) | (1n << 63n), l1Offset(image)),
    type: 'ImageHostile',
    message: /L2 table 0 at \d+ overlaps the L1 table/,
  },
  {
    name: 'an L1 entry outside the file',
    edit: (image) => image.writeBigUInt64BE(1n << 45n, l1Offset(image)),
    type: 'ImageInvalid',
    message: /L2 table 0 ends at/,
  },
  {
    name: 'an unaligned L1 entry',
    edit: (image) => image.writeBigUInt64BE(BigInt(firstL2(image) + 512), l1Offset(image)),
    type: 'ImageInvalid',
    message: /not aligned/,
  },
  {
    name: 'a cluster on its own L2 table',
    edit: (image) => image.writeBigUInt64BE(BigInt(firstL2(image)), firstL2(image)),
    type: 'ImageHostile',
    message: /guest offset 0 at \d+ overlaps an L2 table/,
  },
  {
    name: 'a cluster on the header',
    edit: (image) => image.writeBigUInt64BE((1n << 62n) | 4n, firstL2(image)),
    type: 'ImageHostile',
    message: /overlaps the header/,
  },
  {
    name: 'an unaligned cluster',
    edit: (image) => image.writeBigUInt64BE(BigInt(8 * CLUSTER + 512), firstL2(image)),
    type: 'ImageInvalid',
    message: /not aligned/,
  },
];

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

  for (const { name, edit, type, message } of LIES) {
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
