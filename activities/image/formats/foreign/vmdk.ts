import { hostile, invalid, scratchRequired, unsupported } from '../../refusals.js';
import { assertInside, readU64, type ImageBytes } from './image-bytes.js';
import type { ForeignImage } from './types.js';
import { checkDescriptor, refuseDescriptorFile } from './vmdk-descriptor.js';

const SECTOR = 512;
const SPARSE_MAGIC = 'KDMV';
/** QEMU reads the descriptor there, whatever the header says. */
const DESCRIPTOR_SECTOR = 1;
const MAX_DESCRIPTOR = 64 * 1024;
/** The directory of a stream comes after its grains, and where is told by a copy of the header at the end. */
const AT_END = 2n ** 64n - 1n;
/** Marker and copy of the header, then the marker of the end: a sector each. */
const FOOTER_SECTORS = 3;
const FOOTER_MARKER = 3;
const NEWLINE_TEST = Buffer.from('\n \r\n', 'latin1');

const FLAG_NEWLINE_TEST = 1;
const FLAG_REDUNDANT_DIRECTORY = 2;
const FLAG_COMPRESSED = 1 << 16;

/** QEMU's bounds (`block/vmdk.c`); grains get a smaller one, because a compressed grain is held in memory thrice. */
const MAX_VERSION = 3;
const MAX_TABLE_ENTRIES = 512;
const MAX_GRAIN_BYTES = 8 * 1024 * 1024;
const MAX_DIRECTORY_BYTES = 64 * 1024 * 1024;

/** The sparse header (VMware, "Virtual Disk Format 5.0", "Hosted Sparse Extent Header"), numbers in bytes. */
interface SparseHeader {
  readonly flags: number;
  readonly compressed: boolean;
  readonly capacity: number;
  readonly grainBytes: number;
  /** Entries of a grain table. */
  readonly tableEntries: number;
  readonly descriptorOffset: number;
  readonly descriptorBytes: number;
  readonly redundantDirectory: number;
  /** `undefined`: said by the footer. */
  readonly directory: number | undefined;
  /** Where grains begin. */
  readonly dataOffset: number;
}

/**
 * A VMDK that is one sparse file.
 * @throws {@link FailureType} `ImageHostile` where its data, or a part of it, is in another file; `ImageInvalid`, `UnsupportedFormat`
 */
export async function parseVmdk(bytes: ImageBytes): Promise<ForeignImage> {
  const magic = await bytes.at(0, SPARSE_MAGIC.length, 'VMDK magic number');
  if (magic.toString('latin1') !== SPARSE_MAGIC) {
    const length = Math.min(MAX_DESCRIPTOR, bytes.fileBytes);
    throw refuseDescriptorFile(await textAt(bytes, 0, length));
  }
  const header = readHeader(await bytes.at(0, SECTOR, 'VMDK header'));
  const subformat = checkDescriptor(await descriptorOf(header, bytes));
  const layout = header.directory === undefined ? await readFooter(header, bytes) : header;
  if (header.compressed !== (subformat === 'streamOptimized'))
    throw invalid(
      `VMDK of type ${subformat} has a header that says ${header.compressed ? '' : 'not '}compressed`,
    );
  const tables = checkLayout(layout, bytes.fileBytes);
  // compressed grains are read with what follows them, beyond the end too: the tables are looked at instead
  if (layout.compressed) await checkDirectory(layout, tables, bytes);
  return {
    format: 'vmdk',
    subformat,
    virtualSize: layout.capacity,
    ...(layout.compressed ? {} : { endless: true }),
  };
}

function readHeader(sector: Buffer): SparseHeader {
  const version = sector.readUInt32LE(4);
  if (version < 1 || version > MAX_VERSION)
    throw unsupported(`VMDK version ${version} is not supported: 1 to ${MAX_VERSION} are`);
  const flags = sector.readUInt32LE(8);
  if (flags & FLAG_NEWLINE_TEST && !sector.subarray(73, 77).equals(NEWLINE_TEST))
    throw invalid('VMDK was changed by a transfer as text: its line ends are not as they were written');
  const compression = sector.readUInt16LE(77);
  if (compression > 1)
    throw unsupported(`VMDK compression ${compression} is not supported: 0 (none) and 1 (deflate) are`);
  if ((compression === 1) !== ((flags & FLAG_COMPRESSED) !== 0))
    throw invalid(`VMDK compression ${compression} contradicts its flags`);
  return {
    flags,
    compressed: compression === 1,
    capacity: sectorsAt(sector, 12, 'capacity'),
    grainBytes: sectorsAt(sector, 20, 'grain size'),
    descriptorOffset: sectorsAt(sector, 28, 'descriptor offset'),
    descriptorBytes: sectorsAt(sector, 36, 'descriptor size'),
    tableEntries: sector.readUInt32LE(44),
    redundantDirectory: flags & FLAG_REDUNDANT_DIRECTORY ? sectorsAt(sector, 48, 'redundant directory') : 0,
    directory: sector.readBigUInt64LE(56) === AT_END ? undefined : sectorsAt(sector, 56, 'grain directory'),
    dataOffset: sectorsAt(sector, 64, 'grain offset'),
  };
}

/** A field in sectors, as bytes. */
function sectorsAt(sector: Buffer, at: number, what: string): number {
  const value = readU64(sector, at, `VMDK ${what} in sectors`) * SECTOR;
  if (value > Number.MAX_SAFE_INTEGER) throw hostile(`VMDK ${what} is ${value} bytes, beyond 2^53`);
  return value;
}

async function descriptorOf(
  { descriptorOffset, descriptorBytes }: SparseHeader,
  bytes: ImageBytes,
): Promise<string> {
  if (descriptorOffset === 0 || descriptorBytes === 0) throw withoutDescriptor();
  if (descriptorOffset !== DESCRIPTOR_SECTOR * SECTOR)
    throw invalid(`VMDK descriptor is at ${descriptorOffset}, expected at ${DESCRIPTOR_SECTOR * SECTOR}`);
  if (descriptorBytes > MAX_DESCRIPTOR)
    throw hostile(`VMDK descriptor has ${descriptorBytes} bytes, the limit is ${MAX_DESCRIPTOR}`);
  const text = await textAt(bytes, descriptorOffset, descriptorBytes);
  if (text === '') throw withoutDescriptor();
  return text;
}

function withoutDescriptor(): Error {
  return hostile(
    'VMDK extents: the file has no descriptor of its own, it is one extent of a disk that another file describes',
  );
}

async function textAt(bytes: ImageBytes, offset: number, length: number): Promise<string> {
  const text = await bytes.at(offset, length, 'VMDK descriptor');
  const end = text.indexOf(0);
  return text.toString('latin1', 0, end < 0 ? text.length : end);
}

/** The copy of the header that a stream ends with; it is the one that counts. */
async function readFooter(header: SparseHeader, bytes: ImageBytes): Promise<SparseHeader> {
  const { fileBytes } = bytes;
  if (Number.isFinite(fileBytes) && fileBytes % SECTOR !== 0)
    throw invalid(`VMDK has ${fileBytes} bytes, not a multiple of ${SECTOR}: it is cut short`);
  const length = FOOTER_SECTORS * SECTOR;
  if (fileBytes < 2 * length) throw invalid(`VMDK has ${fileBytes} bytes: it is cut short before its footer`);
  if (fileBytes === Infinity)
    throw scratchRequired('the VMDK says at its end where its tables are, and its length is not known');
  const at = fileBytes - length;
  const tail = await bytes.at(at, length, 'VMDK footer');
  const copy = tail.subarray(SECTOR, 2 * SECTOR);
  const marked = tail.readUInt32LE(8) === 0 && tail.readUInt32LE(12) === FOOTER_MARKER;
  if (!marked || copy.toString('latin1', 0, 4) !== SPARSE_MAGIC)
    throw invalid('VMDK ends without the footer that its header promises: it is cut short');
  const footer = readHeader(copy);
  if (footer.directory === undefined) throw invalid('VMDK footer does not say where the grain directory is');
  if (footer.capacity !== header.capacity || footer.compressed !== header.compressed)
    throw hostile(
      `VMDK header and footer contradict each other: ${header.capacity} bytes and ${footer.capacity} bytes`,
    );
  return footer;
}

/** Bounds what QEMU allocates, and what it reads when it opens the image; the number of grain tables. */
function checkLayout(layout: SparseHeader, fileBytes: number): number {
  const { capacity, grainBytes, tableEntries, dataOffset, directory = 0, redundantDirectory } = layout;
  // with no capacity QEMU takes the descriptor for a list of other files
  if (capacity === 0) throw hostile('VMDK has a capacity of 0 bytes');
  // one that is no power of 2 breaks VMware's rules and none of QEMU's
  if (grainBytes === 0) throw invalid('VMDK has a grain size of 0 bytes');
  if (grainBytes > MAX_GRAIN_BYTES)
    throw hostile(`VMDK grain size is ${grainBytes} bytes, the limit is ${MAX_GRAIN_BYTES}`);
  if (tableEntries < 1 || tableEntries > MAX_TABLE_ENTRIES)
    throw invalid(`VMDK grain tables have ${tableEntries} entries, 1 to ${MAX_TABLE_ENTRIES} expected`);
  const tables = Math.ceil(capacity / (grainBytes * tableEntries));
  if (tables * 4 > MAX_DIRECTORY_BYTES)
    throw hostile(
      `VMDK grain directory for a disk of ${capacity} bytes has ${tables * 4} bytes, the limit is ${MAX_DIRECTORY_BYTES}`,
    );
  assertInside('VMDK grain directory', directory + tables * 4, fileBytes);
  if (redundantDirectory > 0)
    assertInside('VMDK redundant grain directory', redundantDirectory + tables * 4, fileBytes);
  assertInside('VMDK metadata', dataOffset, fileBytes);
  if (directory < SECTOR) throw hostile(`VMDK grain directory at ${directory} overlaps the header`);
  return tables;
}

async function checkDirectory(
  { directory = 0, tableEntries }: SparseHeader,
  tables: number,
  bytes: ImageBytes,
): Promise<void> {
  const entries = await bytes.at(directory, tables * 4, 'VMDK grain directory');
  for (let at = 0; at < entries.length; at += 4) {
    const offset = entries.readUInt32LE(at) * SECTOR;
    if (offset > 0) assertInside(`VMDK grain table ${at / 4}`, offset + tableEntries * 4, bytes.fileBytes);
  }
}
