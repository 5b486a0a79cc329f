import { crc32c } from '../../../activities/image/formats/foreign/crc32c.js';
import type { Lie } from './lie.js';

const KIB = 1024;
const REGIONS = 192 * KIB;
const BAT = Buffer.from('6677c22d23f600429d64115e9bfd4a08', 'hex');
const METADATA = Buffer.from('06a27c8b90479a4bb8fe575f050f886e', 'hex');
const PARAMETERS = Buffer.from('3767a1ca36fa434db3b633f0aa44e76b', 'hex');
const VIRTUAL_SIZE = Buffer.from('2442a52f1bcd7648b2115dbed83bf4b8', 'hex');
const LOGICAL_SECTOR = Buffer.from('1dbf41816fa90947ba47f233a8faab5f', 'hex');
const PAGE_83 = Buffer.from('ab12cabee6b2234593efc309e000c746', 'hex');
const PARENT_LOCATOR = Buffer.from('2d5fd3a80bb34d45abf7d3d84834ab0c', 'hex');

/** Changes the region table, and makes its checksum right. */
const regions =
  (change: (table: Buffer) => void) =>
  (image: Buffer): void => {
    const table = image.subarray(REGIONS, REGIONS + 64 * KIB);
    change(table);
    table.writeUInt32LE(crc32c(table, 4), 4);
  };

/** Changes both headers, and makes their checksums right. */
const headers =
  (change: (header: Buffer) => void) =>
  (image: Buffer): void => {
    for (const at of [64 * KIB, 128 * KIB]) {
      const header = image.subarray(at, at + 4 * KIB);
      change(header);
      header.writeUInt32LE(crc32c(header, 4), 4);
    }
  };

function metadataOf(image: Buffer): Buffer {
  const entry = image.indexOf(METADATA, REGIONS);
  return image.subarray(Number(image.readBigUInt64LE(entry + 16)));
}

/** Changes an item of the metadata. */
const item =
  (guid: Buffer, change: (value: Buffer) => void) =>
  (image: Buffer): void => {
    const metadata = metadataOf(image);
    change(metadata.subarray(metadata.readUInt32LE(metadata.indexOf(guid) + 16)));
  };

/** Lies of a dynamic VHDX. */
export const VHDX_LIES: readonly Lie[] = [
  {
    name: 'vhdx-parent',
    tell: item(PARAMETERS, (value) => value.writeUInt32LE(2, 4)),
    type: 'ImageHostile',
    message: /VHDX has a parent: part of its data is in another file/,
  },
  {
    name: 'vhdx-parent-locator',
    tell(image) {
      const metadata = metadataOf(image);
      PARENT_LOCATOR.copy(metadata, metadata.indexOf(PAGE_83));
    },
    type: 'ImageHostile',
    message: /VHDX has a parent/,
  },
  {
    name: 'vhdx-log-not-replayed',
    tell(image) {
      headers((header) => header.fill(7, 48, 64))(image);
      const log = Number(image.readBigUInt64LE(64 * KIB + 72));
      image.write('loge', log + 8192);
      image.fill(7, log + 8192 + 32, log + 8192 + 48);
    },
    type: 'ImageInvalid',
    message: /its log holds changes that are not in the disk yet/,
  },
  {
    name: 'vhdx-log-of-4-gib',
    tell: headers((header) => void (header.fill(7, 48, 64), header.writeUInt32LE(0xffff_ffff, 68))),
    type: 'ImageHostile',
    message: /log has 4294967295 bytes/,
  },
  {
    name: 'vhdx-log-beyond-the-file',
    tell: headers((header) => void (header.fill(7, 48, 64), header.writeBigUInt64LE(2n ** 40n, 72))),
    type: 'ImageInvalid',
    message: /log ends at \d+, the file at/,
  },
  {
    name: 'vhdx-both-headers-damaged',
    tell: (image) => void (image.writeUInt8(1, 64 * KIB + 100), image.writeUInt8(1, 128 * KIB + 100)),
    type: 'ImageInvalid',
    message: /the checksums of both are wrong/,
  },
  {
    name: 'vhdx-version-2',
    tell: headers((header) => header.writeUInt16LE(2, 66)),
    type: 'UnsupportedFormat',
    message: /VHDX version 2 /,
  },
  {
    name: 'vhdx-region-table-changed',
    tell: (image) => void image.writeUInt8(1, REGIONS + 40_000),
    type: 'ImageInvalid',
    message: /region table is damaged/,
  },
  {
    name: 'vhdx-regions-without-end',
    tell: regions((table) => table.writeUInt32LE(0xffff_ffff, 8)),
    type: 'ImageHostile',
    message: /VHDX has 4294967295 regions/,
  },
  {
    name: 'vhdx-region-of-an-unknown-kind',
    tell: regions((table) => {
      const entry = table.indexOf(BAT);
      table.fill(9, entry, entry + 16).writeUInt32LE(1, entry + 28);
    }),
    type: 'UnsupportedFormat',
    message: /required region of an unknown kind/,
  },
  {
    name: 'vhdx-block-table-of-4-gib',
    tell: regions((table) => table.writeUInt32LE(0xfff0_0000, table.indexOf(BAT) + 24)),
    type: 'ImageHostile',
    message: /region has 4293918720 bytes/,
  },
  {
    name: 'vhdx-block-table-beyond-the-file',
    tell: regions((table) => table.writeBigUInt64LE(2n ** 40n, table.indexOf(BAT) + 16)),
    type: 'ImageInvalid',
    message: /region ends at/,
  },
  {
    name: 'vhdx-block-table-at-2^63',
    tell: regions((table) => table.writeBigUInt64LE(2n ** 63n, table.indexOf(BAT) + 16)),
    type: 'ImageHostile',
    message: /region offset is 9223372036854775808/,
  },
  {
    name: 'vhdx-block-table-over-the-header',
    tell: regions((table) => table.writeBigUInt64LE(0n, table.indexOf(BAT) + 16)),
    type: 'ImageInvalid',
    message: /region at 0 is not on a whole MiB after the first/,
  },
  {
    name: 'vhdx-block-table-over-the-metadata',
    tell: regions((table) =>
      table.copy(table, table.indexOf(BAT) + 16, table.indexOf(METADATA) + 16, table.indexOf(METADATA) + 24),
    ),
    type: 'ImageHostile',
    message: /block table at \d+ overlaps the metadata/,
  },
  {
    name: 'vhdx-metadata-item-of-an-unknown-kind',
    tell(image) {
      const metadata = metadataOf(image);
      const entry = metadata.indexOf(PAGE_83);
      metadata.fill(9, entry, entry + 16);
      metadata.writeUInt32LE(4, entry + 24);
    },
    type: 'UnsupportedFormat',
    message: /required metadata item of an unknown kind/,
  },
  {
    name: 'vhdx-metadata-item-outside',
    tell(image) {
      const metadata = metadataOf(image);
      metadata.writeUInt32LE(0xffff_0000, metadata.indexOf(VIRTUAL_SIZE) + 16);
    },
    type: 'ImageInvalid',
    message: /item virtualSize is at 4294901760, outside/,
  },
  {
    name: 'vhdx-size-2^60',
    tell: item(VIRTUAL_SIZE, (value) => value.writeBigUInt64LE(2n ** 60n)),
    type: 'ImageHostile',
    message: /virtual size is 1152921504606846976, beyond 2\^53/,
  },
  {
    name: 'vhdx-size-2^50',
    tell: item(VIRTUAL_SIZE, (value) => value.writeBigUInt64LE(2n ** 50n)),
    type: 'ImageHostile',
    message: /disk has 1125899906842624 bytes, the format's limit is/,
  },
  {
    name: 'vhdx-size-beyond-its-block-table',
    tell: item(VIRTUAL_SIZE, (value) => value.writeBigUInt64LE(2n ** 45n)),
    type: 'ImageInvalid',
    message: /block table has \d+ bytes, a disk of 35184372088832 bytes needs/,
  },
  {
    name: 'vhdx-blocks-of-three-mib',
    tell: item(PARAMETERS, (value) => value.writeUInt32LE(3 * 1024 * KIB)),
    type: 'ImageInvalid',
    message: /block size 3145728 is no power of 2/,
  },
  {
    name: 'vhdx-sectors-of-4096',
    tell: item(LOGICAL_SECTOR, (value) => value.writeUInt32LE(4096)),
    type: 'UnsupportedFormat',
    message: /logical sector size 4096/,
  },
];
