import { hostile, invalid, unsupported } from '../../refusals.js';
import { assertInside, isPowerOfTwo, readU64, type ImageBytes } from './image-bytes.js';
import type { ForeignImage } from './types.js';

const SECTOR = 512;
const SIGNATURE = 0xbeda_107f;
const VERSION_1_1 = 0x0001_0001;
const TYPES: Readonly<Record<number, 'dynamic' | 'static'>> = { 1: 'dynamic', 2: 'static' };
/** Types whose unwritten blocks are another image's. */
const OVERLAYS: Readonly<Record<number, string>> = { 3: 'an undo', 4: 'a differencing' };
/** The one block size that QEMU reads, and VirtualBox writes. */
const BLOCK_BYTES = 1024 * 1024;
const MAX_MAP_BYTES = 64 * 1024 * 1024;
/** UUIDs of the image that this one builds upon, and of its own parent. */
const LINK = 0x1a8;
const LINK_BYTES = 32;

/**
 * A VDI (`block/vdi.c` of QEMU, `VDICore.h` of VirtualBox).
 * @throws {@link FailureType} `ImageHostile`, `ImageInvalid`, `UnsupportedFormat`
 */
export async function parseVdi(bytes: ImageBytes): Promise<ForeignImage> {
  const header = await bytes.at(0, SECTOR, 'VDI header');
  if (header.readUInt32LE(0x40) !== SIGNATURE) throw invalid('not a VDI: its signature is not there');
  const version = header.readUInt32LE(0x44);
  if (version !== VERSION_1_1)
    throw unsupported(`VDI version ${version >>> 16}.${version & 0xffff} is not supported: 1.1 is`);
  const type = header.readUInt32LE(0x4c);
  const overlay = OVERLAYS[type];
  if (overlay !== undefined)
    throw hostile(
      `VDI is ${overlay} image: part of its data is in another file; flatten it with VBoxManage clonemedium`,
    );
  const subformat = TYPES[type];
  if (!subformat)
    throw unsupported(`VDI image type ${type} is not supported: 1 (dynamic) and 2 (static) are`);
  if (header.subarray(LINK, LINK + LINK_BYTES).some((byte) => byte !== 0))
    throw hostile(
      'VDI has a parent image: part of its data is there; flatten it with VBoxManage clonemedium',
    );
  const { virtualSize, blocks } = checkSizes(header);
  const { allocated, dataOffset } = checkMap(header, blocks, bytes.fileBytes);
  const stored = subformat === 'static' ? blocks : allocated;
  assertInside(`VDI data of ${stored} blocks`, dataOffset + stored * BLOCK_BYTES, bytes.fileBytes);
  return {
    format: 'vdi',
    subformat,
    virtualSize,
    allocatedBytes: Math.min(virtualSize, stored * BLOCK_BYTES),
    endless: true,
  };
}

function checkSizes(header: Buffer): { virtualSize: number; blocks: number } {
  const sectorBytes = header.readUInt32LE(0x168);
  if (sectorBytes !== SECTOR)
    throw unsupported(`VDI sector size ${sectorBytes} is not supported: ${SECTOR} is`);
  const blockBytes = header.readUInt32LE(0x178);
  if (blockBytes !== BLOCK_BYTES) {
    if (!isPowerOfTwo(blockBytes)) throw invalid(`VDI block size ${blockBytes} is no power of 2`);
    throw unsupported(`VDI block size ${blockBytes} is not supported: ${BLOCK_BYTES} is`);
  }
  const extra = header.readUInt32LE(0x17c);
  if (extra !== 0) throw unsupported(`VDI blocks have ${extra} extra bytes, which are not supported`);
  // VirtualBox makes disks of odd sizes from raw files
  const virtualSize = Math.ceil(readU64(header, 0x170, 'VDI disk size') / SECTOR) * SECTOR;
  const blocks = header.readUInt32LE(0x180);
  if (virtualSize > blocks * BLOCK_BYTES)
    throw invalid(`VDI has ${blocks} blocks of ${BLOCK_BYTES} bytes, its disk ${virtualSize} bytes`);
  return { virtualSize, blocks };
}

function checkMap(
  header: Buffer,
  blocks: number,
  fileBytes: number,
): { allocated: number; dataOffset: number } {
  const mapOffset = header.readUInt32LE(0x154);
  const dataOffset = header.readUInt32LE(0x158);
  const mapBytes = blocks * 4;
  for (const [what, offset] of [
    ['block map', mapOffset],
    ['data', dataOffset],
  ] as const)
    if (offset % SECTOR !== 0)
      throw unsupported(`VDI ${what} at ${offset} is not aligned to ${SECTOR} bytes`);
  if (mapBytes > MAX_MAP_BYTES)
    throw hostile(`VDI block map has ${mapBytes} bytes, the limit is ${MAX_MAP_BYTES}`);
  if (mapOffset < SECTOR) throw hostile(`VDI block map at ${mapOffset} overlaps the header`);
  if (dataOffset < mapOffset + mapBytes)
    throw hostile(`VDI data at ${dataOffset} overlaps the block map, which ends at ${mapOffset + mapBytes}`);
  assertInside('VDI block map', mapOffset + mapBytes, fileBytes);
  const allocated = header.readUInt32LE(0x184);
  if (allocated > blocks) throw invalid(`VDI has ${allocated} allocated blocks of ${blocks}`);
  return { allocated, dataOffset };
}
