import { readFileSync, writeFileSync } from 'node:fs';
import { qemuImg } from './images.js';

const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;

/**
 * Makes a qcow2 of a raw disk whose second table maps a cluster that the first one has mapped: no header tells, and one pass finds
 * out on the way. `expected` is the disk that QEMU reads.
 */
export function makeMappedTwice(raw: string, image: string, expected: string): void {
  qemuImg('convert', '-f', 'raw', '-O', 'qcow2', '-o', 'cluster_size=4k', raw, image);
  const bytes = readFileSync(image);
  const l1 = Number(bytes.readBigUInt64BE(40));
  const table = (index: number): number => Number(bytes.readBigUInt64BE(l1 + index * 8) & OFFSET_MASK);
  // the first cluster of the disk once more, as the first that the second table maps
  bytes.writeBigUInt64BE(bytes.readBigUInt64BE(table(0)), table(1));
  writeFileSync(image, bytes);
  qemuImg('convert', '-f', 'qcow2', '-O', 'raw', image, expected);
}
