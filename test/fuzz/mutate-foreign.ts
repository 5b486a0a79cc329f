import { crc32c } from '../../activities/image/formats/foreign/crc32c.js';
import { mutateField, type Field } from './fields.js';
import type { Mutation } from './mutations.js';
import type { Random } from '../support/random.js';

const KIB = 1024;

/** Where a format keeps integers, and how it protects them. */
interface Layout {
  readonly name: string;
  readonly is: (image: Buffer) => boolean;
  /** Areas of headers and tables: offset and length, from the end where negative. */
  readonly areas: readonly (readonly [at: number, bytes: number])[];
  readonly little: boolean;
  readonly repair?: (image: Buffer) => void;
}

const begins =
  (text: string, at = 0) =>
  (image: Buffer): boolean =>
    image.subarray(at, at + text.length).toString('latin1') === text;

const LAYOUTS: readonly Layout[] = [
  {
    name: 'VMDK',
    is: begins('KDMV'),
    areas: [
      [0, 79],
      [0, 79],
      [512, 1024],
      [-1024, 1024],
      [0, 64 * KIB],
    ],
    little: true,
  },
  {
    name: 'VDI',
    is: begins('\x7f\x10\xda\xbe', 64),
    areas: [
      [64, 400],
      [64, 400],
      [512, 4096],
    ],
    little: true,
  },
  {
    name: 'VHD',
    is: (image) => image.subarray(-512, -504).toString() === 'conectix',
    areas: [
      [0, 512],
      [512, 1024],
      [1536, 512],
      [-512, 512],
    ],
    little: false,
    repair: repairVhd,
  },
  {
    name: 'VHDX',
    is: begins('vhdxfile'),
    areas: [
      [64 * KIB, 80],
      [192 * KIB, 80],
      [256 * KIB, 320],
      [320 * KIB, 128],
      [2048 * KIB, 256],
      [3072 * KIB, 256],
    ],
    little: true,
    repair: repairVhdx,
  },
  {
    name: 'zip',
    is: begins('PK'),
    areas: [
      [0, 46],
      [-22, 22],
      [-160, 160],
    ],
    little: true,
  },
  {
    name: 'gz',
    is: begins('\x1f\x8b'),
    areas: [
      [0, 20],
      [-8, 8],
    ],
    little: true,
  },
  {
    name: 'xz',
    is: begins('\xfd7zXZ'),
    areas: [
      [0, 40],
      [-12, 12],
      [-60, 60],
    ],
    little: true,
  },
  {
    name: 'zst',
    is: begins('\x28\xb5\x2f\xfd'),
    areas: [
      [4, 20],
      [-8, 8],
    ],
    little: true,
  },
];

/** Changes an integer where a format that is not qcow2 keeps its headers and tables; absent for what has no format. */
export function mutateForeign(random: Random, image: Buffer): Mutation | undefined {
  const layout = LAYOUTS.find(({ is }) => is(image));
  if (!layout) return undefined;
  const [from, length] = random.pick(layout.areas);
  const start = from < 0 ? Math.max(0, image.length + from) : from;
  const end = Math.min(start + length, image.length);
  if (end <= start) return undefined;
  const bytes = random.pick([1, 2, 4, 4, 8] as const);
  const at = start + Math.floor(random.integer(0, end - start - 1) / bytes) * bytes;
  const field: Field = { name: `${layout.name} integer`, at, bytes, little: layout.little };
  const story = mutateField(random, image, field);
  const repaired = layout.repair && random.chance(85);
  if (repaired) layout.repair?.(image);
  return { bytes: image, story: `${story}${repaired ? ', checksums made right' : ''}` };
}

/** Checksums of footer, its copy, and the dynamic header: the complement of the sum of all other bytes. */
function repairVhd(image: Buffer): void {
  const blocks = [
    { at: 0, bytes: 512, checksum: 64, cookie: 'conectix' },
    { at: image.length - 512, bytes: 512, checksum: 64, cookie: 'conectix' },
    { at: 512, bytes: 1024, checksum: 36, cookie: 'cxsparse' },
  ];
  for (const { at, bytes, checksum, cookie } of blocks) {
    const block = image.subarray(Math.max(0, at), at + bytes);
    if (block.length < bytes || block.subarray(0, 8).toString() !== cookie) continue;
    block.writeUInt32BE(0, checksum);
    const sum = block.reduce((total, byte) => total + byte, 0);
    block.writeUInt32BE(~sum >>> 0, checksum);
  }
}

function repairVhdx(image: Buffer): void {
  for (const [at, bytes] of [
    [64 * KIB, 4 * KIB],
    [128 * KIB, 4 * KIB],
    [192 * KIB, 64 * KIB],
    [256 * KIB, 64 * KIB],
  ] as const) {
    const block = image.subarray(at, at + bytes);
    if (block.length === bytes) block.writeUInt32LE(crc32c(block, 4), 4);
  }
}
