import type { FailureType } from '../../activities/types.js';

const CLUSTER = 65_536;
const L1_ENTRY = 40;
const REFCOUNT_TABLE = 48;
const DATA_MASK = 0x00ff_ffff_ffff_fe00n;

/** Changes bytes of an image file. */
type Edit = (image: Buffer) => void;

/** Offset of the L1 table. */
export const l1Offset = (image: Buffer): number => Number(image.readBigUInt64BE(L1_ENTRY));
/** Offset of the first L2 table. */
export const firstL2 = (image: Buffer): number => Number(image.readBigUInt64BE(l1Offset(image)) & DATA_MASK);
const setFeature =
  (bit: number): Edit =>
  (image) =>
    image.writeBigUInt64BE(image.readBigUInt64BE(72) | (1n << BigInt(bit)), 72);

/** A lie by its name: how an honest image of 8 MiB, with clusters of 64 KiB, is made to tell it, and how it is refused. */
export interface Qcow2Lie {
  readonly name: string;
  readonly edit: Edit;
  readonly type: FailureType;
  readonly message: RegExp;
}

/** Names another file as the one behind it. */
const backing =
  (name: string): Edit =>
  (image) => {
    image.writeBigUInt64BE(512n, 8);
    image.writeUInt32BE(image.write(name, 512), 16);
  };
const BACKING_REFUSAL = {
  type: 'ImageHostile',
  message: /^qcow2 image has a backing file: its data is in another file/,
} as const;

/** Every lie of a header, a table and an entry. */
export const QCOW2_LIES: readonly Qcow2Lie[] = [
  { name: 'a backing file, absolute', edit: backing('/etc/shadow'), ...BACKING_REFUSAL },
  { name: 'a backing file, relative', edit: backing('../shadow.qcow2'), ...BACKING_REFUSAL },
  {
    name: 'a backing file, json:',
    edit: backing('json:{"driver":"file","filename":"/etc/shadow"}'),
    ...BACKING_REFUSAL,
  },
  {
    name: 'the name of no backing file beyond the first cluster',
    edit: (image) => image.writeBigUInt64BE(65_537n, 8),
    type: 'ImageInvalid',
    message: /backing_file_offset 65537 is beyond the first cluster/,
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
    name: 'clusters of 256 bytes',
    edit: (image) => image.writeUInt32BE(8, 20),
    type: 'ImageInvalid',
    message: /cluster_bits 8/,
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
  {
    name: 'an L2 entry with the zeros of version 3 in version 2',
    edit: (image) => {
      image.writeUInt32BE(2, 4);
      image.writeBigUInt64BE(1n, firstL2(image));
    },
    type: 'ImageInvalid',
    message: /marked as zeros, which version 2 does not know/,
  },
  {
    name: 'an unaligned cluster of zeros',
    edit: (image) => image.writeBigUInt64BE(BigInt(8 * CLUSTER + 512) | 1n, firstL2(image)),
    type: 'ImageInvalid',
    message: /not aligned/,
  },
];
