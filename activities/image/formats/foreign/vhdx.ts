import { hostile, invalid, unsupported } from '../../refusals.js';
import { assertInside, isPowerOfTwo, readU64, type ImageBytes } from './image-bytes.js';
import type { ForeignImage } from './types.js';
import { readStretches, type BlockLayout } from './vhdx-blocks.js';
import { readRegions, type Region } from './vhdx-regions.js';

const MIB = 1024 * 1024;
const TABLE_BYTES = 64 * 1024;
const MAX_ENTRIES = 2047;
const ENTRY_BYTES = 32;
const SECTOR = 512;
const MAX_SIZE = 64 * 1024 ** 4;
const BLOCK_BYTES = { least: MIB, most: 256 * MIB };
const BAT_ENTRY_BYTES = 8;
/** A bitmap block of 1 MiB tells of so many sectors. */
const SECTORS_A_BITMAP = 2 ** 23;
const FLAG_FIXED = 1;
const FLAG_PARENT = 2;
const FLAG_REQUIRED = 4;

/** Items of the metadata (MS-VHDX 2.6.2), GUIDs as they lie in the file, and the bytes of each. */
const ITEMS = {
  parameters: ['3767a1ca36fa434db3b633f0aa44e76b', 8],
  virtualSize: ['2442a52f1bcd7648b2115dbed83bf4b8', 8],
  logicalSector: ['1dbf41816fa90947ba47f233a8faab5f', 4],
  physicalSector: ['c748a3cd5d4471449cc9e9885251c556', 4],
  page83: ['ab12cabee6b2234593efc309e000c746', 16],
  parentLocator: ['2d5fd3a80bb34d45abf7d3d84834ab0c', 0],
} as const;

type Item = keyof typeof ITEMS;

/**
 * A VHDX.
 * @throws {@link FailureType} `ImageHostile` where it has a parent, or tables without end; `ImageInvalid`, `UnsupportedFormat`
 */
export async function parseVhdx(bytes: ImageBytes): Promise<ForeignImage> {
  const { bat, metadata } = await readRegions(bytes);
  const places = await readTable(bytes, metadata);
  if (places.has('parentLocator')) throw refuseParent();
  const item = async (name: Item): Promise<Buffer> => readItem(bytes, metadata, { name, places });
  const parameters = await item('parameters');
  const flags = parameters.readUInt32LE(4);
  if (flags & FLAG_PARENT) throw refuseParent();
  const sectorBytes = (await item('logicalSector')).readUInt32LE();
  // QEMU reads no other
  if (sectorBytes !== SECTOR)
    throw unsupported(`VHDX logical sector size ${sectorBytes} is not supported: ${SECTOR} is`);
  const virtualSize = readU64(await item('virtualSize'), 0, 'VHDX virtual size');
  if (virtualSize > MAX_SIZE)
    throw hostile(`VHDX disk has ${virtualSize} bytes, the format's limit is ${MAX_SIZE}`);
  if (virtualSize % SECTOR !== 0)
    throw invalid(`VHDX disk has ${virtualSize} bytes, not a multiple of ${SECTOR}`);
  const layout = checkTable(parameters.readUInt32LE(0), virtualSize, bat);
  const subformat = flags & FLAG_FIXED ? 'fixed' : 'dynamic';
  if (subformat === 'fixed') assertInside('VHDX data', virtualSize, bytes.fileBytes);
  return {
    format: 'vhdx',
    subformat,
    virtualSize,
    stretches: () => readStretches(bytes, bat, layout),
    ...(subformat === 'fixed' ? { allocatedBytes: virtualSize } : {}),
  };
}

function refuseParent(): Error {
  return hostile('VHDX has a parent: part of its data is in another file; merge it with Merge-VHD');
}

/** Where each item of the metadata is, relative to the region. */
async function readTable(bytes: ImageBytes, { offset, length }: Region): Promise<Map<Item, Region>> {
  if (length < TABLE_BYTES)
    throw invalid(`VHDX metadata has ${length} bytes, at least ${TABLE_BYTES} expected`);
  const table = await bytes.at(offset, TABLE_BYTES, 'VHDX metadata');
  if (table.toString('latin1', 0, 8) !== 'metadata')
    throw invalid('VHDX metadata is damaged: its signature is not there');
  const count = table.readUInt16LE(10);
  if (count > MAX_ENTRIES)
    throw hostile(`VHDX metadata has ${count} items, the format's limit is ${MAX_ENTRIES}`);
  const places = new Map<Item, Region>();
  for (let index = 1; index <= count; index += 1) {
    const entry = table.subarray(index * ENTRY_BYTES, (index + 1) * ENTRY_BYTES);
    const guid = entry.toString('hex', 0, 16);
    const name = (Object.keys(ITEMS) as Item[]).find((item) => ITEMS[item][0] === guid);
    if (name) places.set(name, { offset: entry.readUInt32LE(16), length: entry.readUInt32LE(20) });
    else if (entry.readUInt32LE(24) & FLAG_REQUIRED)
      throw unsupported('VHDX has a required metadata item of an unknown kind');
  }
  return places;
}

async function readItem(
  bytes: ImageBytes,
  region: Region,
  { name, places }: { name: Item; places: ReadonlyMap<Item, Region> },
): Promise<Buffer> {
  const place = places.get(name);
  const length = ITEMS[name][1];
  if (!place) throw invalid(`VHDX metadata has no item ${name}`);
  if (place.length < length || place.offset < TABLE_BYTES || place.offset + length > region.length)
    throw invalid(
      `VHDX metadata item ${name} is at ${place.offset}, outside of the metadata's ${region.length} bytes`,
    );
  return bytes.at(region.offset + place.offset, length, `VHDX metadata item ${name}`);
}

/** Bounds the table that QEMU allocates and reads when it opens the image. */
function checkTable(blockBytes: number, virtualSize: number, bat: Region): BlockLayout {
  if (blockBytes < BLOCK_BYTES.least || blockBytes > BLOCK_BYTES.most || !isPowerOfTwo(blockBytes))
    throw invalid(
      `VHDX block size ${blockBytes} is no power of 2 from ${BLOCK_BYTES.least} to ${BLOCK_BYTES.most}`,
    );
  const blocks = Math.ceil(virtualSize / blockBytes);
  const chunk = (SECTORS_A_BITMAP * SECTOR) / blockBytes;
  const entries = blocks + Math.max(0, Math.floor((blocks - 1) / chunk));
  if (entries * BAT_ENTRY_BYTES > bat.length)
    throw invalid(
      `VHDX block table has ${bat.length} bytes, a disk of ${virtualSize} bytes needs ${entries * BAT_ENTRY_BYTES}`,
    );
  return { blockBytes, virtualSize, chunk };
}
