import { field, type Lie } from './lie.js';

const VDI_TYPE = 0x4c;
const word =
  (at: number, value: number) =>
  (image: Buffer): void =>
    void image.writeUInt32LE(value, at);

/** Lies of a dynamic VDI. */
export const VDI_LIES: readonly Lie[] = [
  {
    name: 'vdi-differencing',
    tell: word(VDI_TYPE, 4),
    type: 'ImageHostile',
    message: /VDI is a differencing image: part of its data is in another file/,
  },
  { name: 'vdi-undo', tell: word(VDI_TYPE, 3), type: 'ImageHostile', message: /VDI is an undo image/ },
  {
    name: 'vdi-type-unknown',
    tell: word(VDI_TYPE, 9),
    type: 'UnsupportedFormat',
    message: /VDI image type 9/,
  },
  {
    name: 'vdi-parent',
    tell: word(0x1a8, 1),
    type: 'ImageHostile',
    message: /VDI has a parent image/,
  },
  {
    name: 'vdi-version-2',
    tell: word(0x44, 0x20000),
    type: 'UnsupportedFormat',
    message: /VDI version 2\.0 /,
  },
  {
    name: 'vdi-map-of-16-gib',
    tell: word(0x180, 0xffff_ffff),
    type: 'ImageHostile',
    message: /block map has 17179869180 bytes/,
  },
  {
    name: 'vdi-map-beyond-the-file',
    tell: (image) => void (word(0x180, 2 ** 24)(image), word(0x158, 2 ** 27)(image)),
    type: 'ImageInvalid',
    message: /block map ends at \d+, the file at \d+: it is cut short/,
  },
  {
    name: 'vdi-map-over-the-header',
    tell: word(0x154, 0),
    type: 'ImageHostile',
    message: /block map at 0 overlaps the header/,
  },
  {
    name: 'vdi-data-over-the-map',
    tell: word(0x158, 512),
    type: 'ImageHostile',
    message: /data at 512 overlaps the block map/,
  },
  {
    name: 'vdi-size-2^60',
    tell: field(0x170, 2n ** 60n),
    type: 'ImageHostile',
    message: /disk size is 1152921504606846976, beyond 2\^53/,
  },
  {
    name: 'vdi-size-beyond-its-blocks',
    tell: field(0x170, 2n ** 40n),
    type: 'ImageInvalid',
    message: /its disk 1099511627776 bytes/,
  },
  {
    name: 'vdi-blocks-of-three-bytes',
    tell: word(0x178, 3),
    type: 'ImageInvalid',
    message: /block size 3 is no power of 2/,
  },
  {
    name: 'vdi-blocks-of-2^31',
    tell: word(0x178, 2 ** 31),
    type: 'UnsupportedFormat',
    message: /block size 2147483648/,
  },
  {
    name: 'vdi-more-allocated-than-there-is',
    tell: word(0x184, 500),
    type: 'ImageInvalid',
    message: /500 allocated blocks of 4/,
  },
  {
    name: 'vdi-static-without-its-data',
    tell: (image) => void (word(VDI_TYPE, 2)(image), word(0x180, 100)(image)),
    type: 'ImageInvalid',
    message: /data of 100 blocks ends at/,
  },
];
