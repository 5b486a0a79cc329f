import { hostile, invalid, unsupported } from '../../refusals.js';

/**
 * The qcow2 header (QEMU `docs/interop/qcow2.txt`, "Header"), checked: everything that a later step allocates or reads by is
 * bounded here. Offsets and sizes are bytes in the image file, as numbers below 2^53.
 */
export interface Qcow2Header {
  readonly version: 2 | 3;
  readonly clusterSize: number;
  /** Size the guest sees. */
  readonly virtualSize: number;
  readonly l1Offset: number;
  /** L1 entries that the guest's size needs; the table may hold more. */
  readonly l1Entries: number;
  /** L1 entries the header claims, for overlap checks. */
  readonly l1TableEntries: number;
  readonly refcountOffset: number;
  readonly refcountBytes: number;
  readonly snapshots: number;
  readonly snapshotsOffset: number;
  readonly compression: 'zlib' | 'zstd';
  readonly extendedL2: boolean;
  /** Bytes of an L2 entry: 16 with extended L2, else 8. */
  readonly l2EntryBytes: 8 | 16;
  /** Entries of one L2 table, which is one cluster. */
  readonly l2Entries: number;
}

/** Bits of `incompatible_features` that this reader understands, by number. */
const DIRTY = 0;
const CORRUPT = 1;
const DATA_FILE = 2;
const COMPRESSION_TYPE = 3;
const EXTENDED_L2 = 4;
const KNOWN_BITS = [DIRTY, CORRUPT, DATA_FILE, COMPRESSION_TYPE, EXTENDED_L2];

/** QEMU's own limits (`block/qcow2.h`): QCOW_MAX_L1_SIZE, QCOW_MAX_REFTABLE_SIZE, QCOW_MAX_SNAPSHOTS. */
const MAX_L1_BYTES = 32 * 1024 * 1024;
const MAX_REFCOUNT_TABLE_BYTES = 8 * 1024 * 1024;
const MAX_SNAPSHOTS = 65_536;
/** Of QEMU's block layer, in bytes. */
const SECTOR = 512;
/** Extended L2 divides a cluster into 32 subclusters of at least one sector. */
const MIN_EXTENDED_CLUSTER_BITS = 14;

/** Reads and checks the header. `head` holds at least its fields, or all of a shorter file; `fileBytes` where known. */
export function parseHeader(head: Buffer, fileBytes?: number): Qcow2Header {
  if (head.length < 72)
    throw invalid(`qcow2 header is cut short: ${head.length} bytes, at least 72 expected`);
  const version = head.readUInt32BE(4);
  if (version !== 2 && version !== 3)
    throw unsupported(`qcow2 version ${version} is not supported: 2 and 3 are`);
  const clusterBits = head.readUInt32BE(20);
  if (clusterBits < 9 || clusterBits > 21)
    throw invalid(`qcow2 cluster_bits ${clusterBits} is outside 9 to 21`);
  const features = version === 3 ? parseFeatures(head, 2 ** clusterBits) : V2_FEATURES;
  refuseReferences(head, { bits: features.bits, clusterSize: 2 ** clusterBits });
  const extendedL2 = features.bits.includes(EXTENDED_L2);
  if (extendedL2 && clusterBits < MIN_EXTENDED_CLUSTER_BITS)
    throw invalid(
      `qcow2 extended L2 entries need cluster_bits of at least ${MIN_EXTENDED_CLUSTER_BITS}, found ${clusterBits}`,
    );
  const geometry = { clusterSize: 2 ** clusterBits, l2EntryBytes: extendedL2 ? 16 : 8 } as const;
  return {
    version,
    extendedL2,
    compression: features.compression,
    ...parseTables(head, geometry, fileBytes),
  };
}

interface Features {
  readonly bits: readonly number[];
  readonly compression: 'zlib' | 'zstd';
}
const V2_FEATURES: Features = { bits: [], compression: 'zlib' };

function parseFeatures(head: Buffer, clusterSize: number): Features {
  if (head.length < 104)
    throw invalid(`qcow2 version 3 header is cut short: ${head.length} bytes, at least 104 expected`);
  const headerLength = head.readUInt32BE(100);
  // fields that are not known here may fill the first cluster, and are not looked at
  if (headerLength < 104 || headerLength > clusterSize)
    throw invalid(`qcow2 header_length ${headerLength} is outside 104 to ${clusterSize}`);
  const bits = setBits(head.readUInt32BE(76), 0).concat(setBits(head.readUInt32BE(72), 32));
  const unknown = bits.filter((bit) => !KNOWN_BITS.includes(bit));
  if (unknown.length > 0)
    throw unsupported(`qcow2 uses unknown incompatible features: bits ${unknown.join(', ')}`);
  if (bits.includes(CORRUPT))
    throw invalid(
      'qcow2 image is marked corrupt (incompatible feature bit 1): repair it with qemu-img check -r all',
    );
  const refcountOrder = head.readUInt32BE(96);
  if (refcountOrder > 6) throw invalid(`qcow2 refcount_order ${refcountOrder} is greater than 6`);
  return { bits, compression: compressionType(head, headerLength, bits) };
}

function compressionType(head: Buffer, headerLength: number, bits: readonly number[]): 'zlib' | 'zstd' {
  const type = headerLength > 104 ? (head[104] ?? 0) : 0;
  if (bits.includes(COMPRESSION_TYPE) !== (type !== 0))
    throw invalid(`qcow2 compression_type ${type} contradicts incompatible feature bit 3`);
  if (type > 1)
    throw unsupported(`qcow2 compression type ${type} is not supported: 0 (zlib) and 1 (zstd) are`);
  return type === 1 ? 'zstd' : 'zlib';
}

function refuseReferences(
  head: Buffer,
  { bits, clusterSize }: { readonly bits: readonly number[]; readonly clusterSize: number },
): void {
  const backingFileOffset = readOffset(head, 8);
  // where or how long its name is means nothing without the other: QEMU takes that for none
  if (backingFileOffset !== 0 && head.readUInt32BE(16) !== 0)
    throw hostile(
      'qcow2 image has a backing file: its data is in another file; flatten it with qemu-img convert',
    );
  if (backingFileOffset > clusterSize)
    throw invalid(`qcow2 backing_file_offset ${backingFileOffset} is beyond the first cluster`);
  if (bits.includes(DATA_FILE))
    throw hostile(
      'qcow2 image has an external data file: its data is in another file; flatten it with qemu-img convert',
    );
  const encryption = head.readUInt32BE(32);
  if (encryption !== 0)
    throw unsupported(`qcow2 image is encrypted (method ${encryption}): decrypt it with qemu-img convert`);
}

type Tables = Omit<Qcow2Header, 'version' | 'compression' | 'extendedL2'>;

function parseTables(
  head: Buffer,
  geometry: Pick<Tables, 'clusterSize' | 'l2EntryBytes'>,
  fileBytes = Infinity,
): Tables {
  const { clusterSize, l2EntryBytes } = geometry;
  const l2Entries = clusterSize / l2EntryBytes;
  const bytes = readOffset(head, 24);
  const l1Entries = Math.ceil(bytes / (clusterSize * l2Entries));
  // QEMU's disks consist of sectors: the part of one at the end is not there (`qcow2_do_open`)
  const virtualSize = Math.floor(bytes / SECTOR) * SECTOR;
  const l1TableEntries = head.readUInt32BE(36);
  if (l1TableEntries * 8 > MAX_L1_BYTES || l1Entries * 8 > MAX_L1_BYTES)
    throw hostile(
      `qcow2 L1 table has ${Math.max(l1TableEntries, l1Entries) * 8} bytes, the format's limit is ${MAX_L1_BYTES}`,
    );
  if (l1TableEntries < l1Entries)
    throw invalid(
      `qcow2 L1 table has ${l1TableEntries} entries, a disk of ${virtualSize} bytes needs ${l1Entries}`,
    );
  const l1Offset = readOffset(head, 40);
  if (l1TableEntries > 0) checkTable('L1 table', l1Offset, l1TableEntries * 8, clusterSize, fileBytes);
  const refcountOffset = readOffset(head, 48);
  const refcountBytes = head.readUInt32BE(56) * clusterSize;
  if (refcountBytes === 0) throw invalid('qcow2 image has no refcount table');
  if (refcountBytes > MAX_REFCOUNT_TABLE_BYTES)
    throw hostile(
      `qcow2 refcount table has ${refcountBytes} bytes, the format's limit is ${MAX_REFCOUNT_TABLE_BYTES}`,
    );
  // neither this table nor that of snapshots is read, by QEMU or here: the file may end before them
  checkTable('refcount table', refcountOffset, refcountBytes, clusterSize);
  const snapshots = head.readUInt32BE(60);
  if (snapshots > MAX_SNAPSHOTS)
    throw hostile(`qcow2 image has ${snapshots} snapshots, the format's limit is ${MAX_SNAPSHOTS}`);
  const snapshotsOffset = snapshots > 0 ? readOffset(head, 64) : 0;
  if (snapshots > 0) checkTable('snapshot table', snapshotsOffset, 40 * snapshots, clusterSize);
  refuseOverlap(l1Offset, l1TableEntries * 8, refcountOffset, refcountBytes);
  return {
    ...geometry,
    virtualSize,
    l1Offset,
    l1Entries,
    l1TableEntries,
    refcountOffset,
    refcountBytes,
    snapshots,
    snapshotsOffset,
    l2Entries,
  };
}

/** A table starts on a cluster after the header, and ends inside the file where that is given. */
function checkTable(
  name: string,
  offset: number,
  bytes: number,
  clusterSize: number,
  fileBytes = Infinity,
): void {
  if (offset % clusterSize !== 0)
    throw invalid(`qcow2 ${name} at ${offset} is not aligned to clusters of ${clusterSize} bytes`);
  if (offset < clusterSize) throw hostile(`qcow2 ${name} at ${offset} overlaps the header`);
  if (offset + bytes > fileBytes)
    throw invalid(`qcow2 ${name} ends at ${offset + bytes}, the file at ${fileBytes}: it is cut short`);
}

function refuseOverlap(
  l1Offset: number,
  l1Bytes: number,
  refcountOffset: number,
  refcountBytes: number,
): void {
  if (l1Bytes > 0 && l1Offset < refcountOffset + refcountBytes && refcountOffset < l1Offset + l1Bytes)
    throw hostile(`qcow2 L1 table at ${l1Offset} overlaps the refcount table at ${refcountOffset}`);
}

/** A 64-bit field as a number; nothing honest is at or beyond 2^53. */
function readOffset(head: Buffer, at: number): number {
  const value = head.readUInt32BE(at) * 2 ** 32 + head.readUInt32BE(at + 4);
  if (value > Number.MAX_SAFE_INTEGER)
    throw hostile(`qcow2 header field at ${at} is ${head.readBigUInt64BE(at)}, beyond 2^53`);
  return value;
}

function setBits(word: number, base: number): number[] {
  return Array.from({ length: 32 }, (_, bit) => bit)
    .filter((bit) => (word >>> bit) & 1)
    .map((bit) => bit + base);
}
