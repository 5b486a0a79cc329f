import { field, type Lie } from './lie.js';

const CAPACITY = 12;
const GRAIN = 20;
const DESCRIPTOR_OFFSET = 28;
const DESCRIPTOR_SIZE = 36;
const TABLE_ENTRIES = 44;
const REDUNDANT = 48;
const DIRECTORY = 56;

/** Changes the text of the descriptor, and ends it there. */
function rewrite(pattern: RegExp | string, text: string): (image: Buffer) => void {
  return (image) => {
    const end = image.indexOf(0, 512);
    const changed = image.toString('latin1', 512, end).replace(pattern, text);
    image.fill(0, 512, 512 + 20 * 512).write(changed, 512, 'latin1');
  };
}

/** Lies of a monolithicSparse image. */
export const VMDK_LIES: readonly Lie[] = [
  {
    name: 'vmdk-flat-extent',
    tell: rewrite(/RW \d+ SPARSE .*/, 'RW 8192 FLAT "/etc/shadow" 0'),
    type: 'ImageHostile',
    message: /VMDK extents: the descriptor names flat extents: its data is in another file/,
  },
  {
    name: 'vmdk-two-extents',
    tell: rewrite(/RW (\d+ SPARSE .*)/, 'RW $1\nRDONLY 8192 SPARSE "/etc/shadow"'),
    type: 'ImageHostile',
    message: /names 2 extents in files of their own/,
  },
  {
    name: 'vmdk-type-of-many-files',
    tell: rewrite('monolithicSparse', 'twoGbMaxExtentFlat'),
    type: 'ImageHostile',
    message: /an image of type twoGbMaxExtentFlat has its data in another file/,
  },
  {
    name: 'vmdk-type-unknown',
    tell: rewrite('monolithicSparse', 'hunter2'),
    type: 'UnsupportedFormat',
    message: /createType is unknown: monolithicSparse and streamOptimized are supported$/,
  },
  {
    name: 'vmdk-parent',
    tell: rewrite('parentCID=ffffffff', 'parentCID=ffffffff\nparentFileNameHint="/etc/shadow"'),
    type: 'ImageHostile',
    message: /VMDK has a parent file \(parentFileNameHint\)/,
  },
  {
    name: 'vmdk-parent-cid',
    tell: rewrite('parentCID=ffffffff', 'parentCID=12345678'),
    type: 'ImageHostile',
    message: /VMDK has a parent \(parentCID is not ffffffff\)/,
  },
  {
    name: 'vmdk-parent-hidden-behind-the-descriptor-that-the-header-names',
    tell: field(DESCRIPTOR_OFFSET, 8n),
    type: 'ImageInvalid',
    message: /descriptor is at 4096, expected at 512/,
  },
  {
    name: 'vmdk-descriptor-of-4-gib',
    tell: field(DESCRIPTOR_SIZE, 2n ** 23n),
    type: 'ImageHostile',
    message: /descriptor has 4294967296 bytes/,
  },
  {
    name: 'vmdk-without-descriptor',
    tell: field(DESCRIPTOR_OFFSET, 0n),
    type: 'ImageHostile',
    message: /no descriptor of its own/,
  },
  {
    name: 'vmdk-capacity-0',
    tell: field(CAPACITY, 0n),
    type: 'ImageHostile',
    message: /capacity of 0 bytes/,
  },
  {
    name: 'vmdk-capacity-2^60',
    tell: field(CAPACITY, 2n ** 60n),
    type: 'ImageHostile',
    message: /capacity in sectors is 1152921504606846976, beyond 2\^53/,
  },
  {
    name: 'vmdk-capacity-2^52',
    tell: field(CAPACITY, 2n ** 43n),
    type: 'ImageHostile',
    message: /grain directory for a disk of 4503599627370496 bytes has \d+ bytes, the limit is 67108864/,
  },
  {
    name: 'vmdk-capacity-beyond-its-directory',
    tell: field(CAPACITY, 2n ** 36n),
    type: 'ImageInvalid',
    message: /grain directory ends at \d+, the file at \d+: it is cut short/,
  },
  {
    name: 'vmdk-grain-of-2^40',
    tell: field(GRAIN, 2n ** 31n),
    type: 'ImageHostile',
    message: /grain size is 1099511627776 bytes/,
  },
  {
    name: 'vmdk-grain-of-no-sector',
    tell: field(GRAIN, 0n),
    type: 'ImageInvalid',
    message: /grain size of 0 bytes/,
  },
  {
    name: 'vmdk-tables-without-entries',
    tell: (image) => void image.writeUInt32LE(0, TABLE_ENTRIES),
    type: 'ImageInvalid',
    message: /tables have 0 entries/,
  },
  {
    name: 'vmdk-tables-of-2^31-entries',
    tell: (image) => void image.writeUInt32LE(2 ** 31, TABLE_ENTRIES),
    type: 'ImageInvalid',
    message: /tables have 2147483648 entries/,
  },
  {
    name: 'vmdk-directory-beyond-the-file',
    tell: field(DIRECTORY, 2n ** 40n),
    type: 'ImageInvalid',
    message: /grain directory ends at \d+, the file at/,
  },
  {
    name: 'vmdk-second-directory-beyond-the-file',
    tell: field(REDUNDANT, 2n ** 40n),
    type: 'ImageInvalid',
    message: /redundant grain directory ends at/,
  },
  {
    name: 'vmdk-directory-over-the-header',
    tell: field(DIRECTORY, 0n),
    type: 'ImageHostile',
    message: /directory at 0 overlaps the header/,
  },
  {
    name: 'vmdk-version-4',
    tell: (image) => void image.writeUInt32LE(4, 4),
    type: 'UnsupportedFormat',
    message: /VMDK version 4 /,
  },
  {
    name: 'vmdk-transferred-as-text',
    tell: (image) => void (image.writeUInt32LE(image.readUInt32LE(8) | 1, 8), image.fill(10, 73, 77)),
    type: 'ImageInvalid',
    message: /transfer as text/,
  },
  {
    name: 'vmdk-compression-7',
    tell: (image) => void image.writeUInt16LE(7, 77),
    type: 'UnsupportedFormat',
    message: /compression 7/,
  },
];

const footerOf = (image: Buffer): Buffer => image.subarray(image.length - 1024, image.length - 512);

/** Lies of a streamOptimized image with a footer. */
export const VMDK_STREAM_LIES: readonly Lie[] = [
  {
    name: 'vmdk-stream-footer-of-another-size',
    tell: (image) => field(CAPACITY, 2n ** 30n)(footerOf(image)),
    type: 'ImageHostile',
    message: /header and footer contradict each other: 4194304 bytes and 549755813888 bytes/,
  },
  {
    name: 'vmdk-stream-footer-that-says-at-the-end',
    tell: (image) => field(DIRECTORY, 2n ** 64n - 1n)(footerOf(image)),
    type: 'ImageInvalid',
    message: /footer does not say where/,
  },
  {
    name: 'vmdk-stream-cut-before-its-footer',
    tell: (image) => image.subarray(0, image.length - 1024),
    type: 'ImageInvalid',
    message: /ends without the footer/,
  },
  {
    name: 'vmdk-stream-table-beyond-the-file',
    tell(image) {
      const directory = Number(footerOf(image).readBigUInt64LE(DIRECTORY)) * 512;
      image.writeUInt32LE(0xffff_ff00, directory);
    },
    type: 'ImageInvalid',
    message: /grain table 0 ends at \d+, the file at \d+: it is cut short/,
  },
  {
    name: 'vmdk-stream-that-is-not-compressed',
    tell: rewrite('streamOptimized', 'monolithicSparse'),
    type: 'ImageInvalid',
    message: /VMDK of type monolithicSparse has a header that says compressed/,
  },
];
