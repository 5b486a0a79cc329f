import type { Lie } from './lie.js';

/** A footer with its checksum made right. */
export function sealFooter(footer: Buffer): Buffer {
  checkVhd(footer, 64);
  return footer;
}

/** One's complement of the sum of all bytes, written into them. */
function checkVhd(bytes: Buffer, at: number): void {
  bytes.writeUInt32BE(0, at);
  bytes.writeUInt32BE(~bytes.reduce((sum, byte) => sum + byte, 0) >>> 0, at);
}

/** Changes the footer's copy, and makes its checksum right. */
const footer =
  (change: (bytes: Buffer) => void) =>
  (image: Buffer): void => {
    const bytes = image.subarray(0, 512);
    change(bytes);
    sealFooter(bytes);
  };

/** Changes the dynamic header, and makes its checksum right. */
const dynamic =
  (change: (bytes: Buffer) => void) =>
  (image: Buffer): void => {
    const bytes = image.subarray(512, 1536);
    change(bytes);
    checkVhd(bytes, 36);
  };

/** Lies of a dynamic VHD. */
export const VHD_LIES: readonly Lie[] = [
  {
    name: 'vhd-differencing',
    tell: footer((bytes) => bytes.writeUInt32BE(4, 60)),
    type: 'ImageHostile',
    message: /VHD is a differencing disk: part of its data is in a parent file/,
  },
  {
    name: 'vhd-fixed-at-its-start',
    tell: footer((bytes) => bytes.writeUInt32BE(2, 60)),
    type: 'ImageInvalid',
    message: /footer of type 2 at its start/,
  },
  {
    name: 'vhd-footer-changed',
    // of the unique id, which is another each time
    tell: (image) => void image.writeUInt8(image.readUInt8(70) ^ 1, 70),
    type: 'ImageInvalid',
    message: /footer at 0 is damaged/,
  },
  {
    name: 'vhd-size-2^60',
    tell: footer((bytes) => bytes.writeBigUInt64BE(2n ** 60n, 48)),
    type: 'ImageHostile',
    message: /current size is 1152921504606846976, beyond 2\^53/,
  },
  {
    name: 'vhd-size-2^50',
    tell: footer((bytes) => void (bytes.writeBigUInt64BE(2n ** 50n, 48), bytes.write('win ', 28))),
    type: 'ImageInvalid',
    message: /disk has 1125899906842624 bytes, the format's limit is/,
  },
  {
    name: 'vhd-size-beyond-its-blocks',
    tell: footer((bytes) => void (bytes.writeBigUInt64BE(2n ** 40n, 48), bytes.write('win ', 28))),
    type: 'ImageInvalid',
    message: /its disk 1099511627776 bytes/,
  },
  {
    name: 'vhd-header-at-2^63',
    tell: footer((bytes) => bytes.writeBigUInt64BE(2n ** 63n, 16)),
    type: 'ImageHostile',
    message: /dynamic header is at 9223372036854775808/,
  },
  {
    name: 'vhd-header-beyond-the-file',
    tell: footer((bytes) => bytes.writeBigUInt64BE(2n ** 40n, 16)),
    type: 'ImageInvalid',
    message: /dynamic header ends at \d+, the file at/,
  },
  {
    name: 'vhd-header-changed',
    tell: (image) => void image.writeUInt8(1, 600),
    type: 'ImageInvalid',
    message: /dynamic header at 512 is damaged/,
  },
  {
    name: 'vhd-table-of-16-gib',
    tell: dynamic((bytes) => bytes.writeUInt32BE(0xffff_ffff, 28)),
    type: 'ImageHostile',
    message: /block table has 17179869180 bytes/,
  },
  {
    name: 'vhd-table-beyond-the-file',
    tell: dynamic((bytes) => bytes.writeBigUInt64BE(2n ** 40n, 16)),
    type: 'ImageInvalid',
    message: /block table ends at/,
  },
  {
    name: 'vhd-blocks-of-2^31',
    tell: dynamic((bytes) => bytes.writeUInt32BE(2 ** 31, 32)),
    type: 'ImageHostile',
    message: /block size is 2147483648/,
  },
  {
    name: 'vhd-blocks-of-three-bytes',
    tell: dynamic((bytes) => bytes.writeUInt32BE(3, 32)),
    type: 'ImageInvalid',
    message: /block size 3 is no power of 2/,
  },
  {
    name: 'vhd-version-2',
    tell: dynamic((bytes) => bytes.writeUInt32BE(0x20000, 24)),
    type: 'UnsupportedFormat',
    message: /header version 131072/,
  },
];
