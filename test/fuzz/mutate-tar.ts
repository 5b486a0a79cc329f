import type { Mutation } from './mutations.js';
import type { Random } from '../support/random.js';

const BLOCK = 512;
const CHECKSUM = { at: 148, bytes: 8 };

/** Fields of a header as POSIX has them: offset and length. */
const FIELDS: readonly (readonly [name: string, at: number, bytes: number])[] = [
  ['name', 0, 100],
  ['mode', 100, 8],
  ['uid', 108, 8],
  ['size', 124, 12],
  ['size', 124, 12],
  ['size', 124, 12],
  ['mtime', 136, 12],
  ['type', 156, 1],
  ['type', 156, 1],
  ['link', 157, 100],
  ['magic', 257, 8],
  ['prefix', 345, 155],
];
const TYPES = ['0', '1', '2', '3', '4', '5', '6', '7', 'x', 'g', 'L', 'K', 'S', 'D', 'V', 'M', '\0', 'Z'];
const NUMBERS = [
  '0',
  '1',
  '777',
  '1000',
  '77777777777',
  '-1',
  ' 12 ',
  '9',
  '\x80\0\0\0\0\0\0\x01',
  '\xff\xff\xff\xff\xff\xff\xff\xff',
];
/** No archive may make this file. */
export const OUTSIDE_NAME = '/tmp/dvflow-fuzz-canary';
const NAMES = [
  '../up',
  OUTSIDE_NAME,
  '../canary-1',
  'link/up',
  './',
  '',
  '.',
  '..',
  'a/../../b',
  'x'.repeat(100),
  'disk.img',
  './._disk.img',
];

/** Changes a field of a tar header, mostly with the right checksum over the lie. */
export function mutateTar(random: Random, image: Buffer): Mutation {
  const headers = findHeaders(image);
  const at = random.pick(headers);
  const header = image.subarray(at, at + BLOCK);
  const [name, offset, length] = random.pick(FIELDS);
  const value = chooseValue(random, name).slice(0, length);
  header.fill(0, offset, offset + length);
  header.write(value, offset, length, 'latin1');
  const repaired = random.chance(85);
  if (repaired) repairChecksum(header);
  return {
    bytes: image,
    story: `tar ${name} of the header at ${at}: ${JSON.stringify(value)}${repaired ? '' : ', wrong checksum'}`,
  };
}

function chooseValue(random: Random, name: string): string {
  if (name === 'type') return random.pick(TYPES);
  if (name === 'name' || name === 'link' || name === 'prefix') return random.pick(NAMES);
  if (name === 'magic') return random.pick(['ustar\x0000', 'ustar  \0', '\0\0\0\0\0\0\0\0']);
  return random.chance(70) ? random.pick(NUMBERS) : random.bytes(12).toString('latin1');
}

function findHeaders(image: Buffer): number[] {
  const found = [0];
  for (let at = BLOCK; at + BLOCK <= image.length; at += BLOCK)
    if (image.subarray(at + 257, at + 262).toString('latin1') === 'ustar') found.push(at);
  return found;
}

function repairChecksum(header: Buffer): void {
  const { at, bytes } = CHECKSUM;
  header.fill(' ', at, at + bytes);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, at);
}
