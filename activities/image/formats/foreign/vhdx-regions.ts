import { hostile, invalid, unsupported } from '../../refusals.js';
import { crc32c } from './crc32c.js';
import { assertInside, readU64, type ImageBytes } from './image-bytes.js';

const MIB = 1024 * 1024;
const HEADERS = [64 * 1024, 128 * 1024];
const HEADER_BYTES = 4096;
const REGIONS = 192 * 1024;
const REGIONS_BYTES = 64 * 1024;
const MAX_REGIONS = 2047;
const REGION_BYTES = 32;
const CHECKSUM = 4;
/** First byte that a region may occupy: the header section is 1 MiB. */
const FIRST = MIB;
const MAX_REGION_BYTES = 64 * MIB;
const LOG_SECTOR = 4096;
const MAX_LOG_BYTES = 64 * MIB;

/** GUIDs as they lie in the file. */
const BAT = '6677c22d23f600429d64115e9bfd4a08';
const METADATA = '06a27c8b90479a4bb8fe575f050f886e';

/** A piece of the file that serves a purpose. */
export interface Region {
  readonly offset: number;
  readonly length: number;
}

interface Header {
  readonly sequence: bigint;
  readonly bytes: Buffer;
}

/** Finds the block table and the metadata (MS-VHDX 2.2.3), and makes sure that there is no log to be replayed. */
export async function readRegions(bytes: ImageBytes): Promise<{ bat: Region; metadata: Region }> {
  const header = await currentHeader(bytes);
  await refuseDirtyLog(header, bytes);
  const table = await bytes.at(REGIONS, REGIONS_BYTES, 'VHDX region table');
  if (table.toString('latin1', 0, 4) !== 'regi' || crc32c(table, CHECKSUM) !== table.readUInt32LE(CHECKSUM))
    throw invalid('VHDX region table is damaged: its checksum is wrong');
  const count = table.readUInt32LE(8);
  if (count > MAX_REGIONS) throw hostile(`VHDX has ${count} regions, the format's limit is ${MAX_REGIONS}`);
  const found = new Map<string, Region>();
  for (let index = 0; index < count; index += 1) {
    const entry = table.subarray(16 + index * REGION_BYTES, 16 + (index + 1) * REGION_BYTES);
    const guid = entry.toString('hex', 0, 16);
    if (guid !== BAT && guid !== METADATA) {
      if (entry.readUInt32LE(28) & 1) throw unsupported('VHDX has a required region of an unknown kind');
      continue;
    }
    if (found.has(guid)) throw invalid('VHDX has a region twice');
    found.set(guid, regionOf(entry, bytes.fileBytes));
  }
  const bat = found.get(BAT);
  const metadata = found.get(METADATA);
  if (!bat || !metadata) throw invalid('VHDX has no block table or no metadata');
  if (bat.offset < metadata.offset + metadata.length && metadata.offset < bat.offset + bat.length)
    throw hostile(`VHDX block table at ${bat.offset} overlaps the metadata at ${metadata.offset}`);
  return { bat, metadata };
}

function regionOf(entry: Buffer, fileBytes: number): Region {
  const offset = readU64(entry, 16, 'VHDX region offset');
  const length = entry.readUInt32LE(24);
  if (offset < FIRST || offset % MIB !== 0)
    throw invalid(`VHDX region at ${offset} is not on a whole MiB after the first`);
  if (length > MAX_REGION_BYTES)
    throw hostile(`VHDX region has ${length} bytes, the limit is ${MAX_REGION_BYTES}`);
  assertInside('VHDX region', offset + length, fileBytes);
  return { offset, length };
}

/** Of two headers the one with the higher number that is whole. */
async function currentHeader(bytes: ImageBytes): Promise<Buffer> {
  const headers: Header[] = [];
  for (const offset of HEADERS) {
    const header = await bytes.at(offset, HEADER_BYTES, 'VHDX header');
    const whole =
      header.toString('latin1', 0, 4) === 'head' &&
      crc32c(header, CHECKSUM) === header.readUInt32LE(CHECKSUM);
    if (whole) headers.push({ sequence: header.readBigUInt64LE(8), bytes: header });
  }
  const [first, second] = headers;
  if (!first) throw invalid('VHDX headers are damaged: the checksums of both are wrong');
  const { bytes: header } = second && second.sequence > first.sequence ? second : first;
  const version = header.readUInt16LE(66);
  if (version !== 1) throw unsupported(`VHDX version ${version} is not supported: 1 is`);
  return header;
}

/** A log with entries of the header's own GUID holds changes that are not in the file yet; QEMU replays none of a file it may not write. */
async function refuseDirtyLog(header: Buffer, bytes: ImageBytes): Promise<void> {
  const guid = header.subarray(48, 64);
  if (guid.every((byte) => byte === 0)) return;
  const length = header.readUInt32LE(68);
  const offset = readU64(header, 72, 'VHDX log offset');
  if (length > MAX_LOG_BYTES) throw hostile(`VHDX log has ${length} bytes, the limit is ${MAX_LOG_BYTES}`);
  const log = await bytes.at(offset, length, 'VHDX log');
  for (let at = 0; at + LOG_SECTOR <= log.length; at += LOG_SECTOR) {
    const entry =
      log.toString('latin1', at, at + 4) === 'loge' && log.subarray(at + 32, at + 48).equals(guid);
    if (entry)
      throw invalid(
        'VHDX was not closed: its log holds changes that are not in the disk yet; open and close it once (Mount-VHD, or qemu-img check -r all)',
      );
  }
}
