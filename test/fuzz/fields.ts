import { edgeValue } from './edge-values.js';
import type { Random } from '../support/random.js';

/** An unsigned integer of a format. */
export interface Field {
  readonly name: string;
  readonly at: number;
  readonly bytes: 1 | 2 | 4 | 8;
  readonly little?: boolean;
}

/** The value of a field. */
export function readField(image: Buffer, { at, bytes, little = false }: Field): bigint {
  const content = Buffer.from(image.subarray(at, at + bytes));
  if (little) content.reverse();
  return BigInt(`0x${content.toString('hex') || '0'}`);
}

/** Sets a field, as far as it lies in the image. */
export function writeField(image: Buffer, { at, bytes, little = false }: Field, value: bigint): void {
  const content = Buffer.from(value.toString(16).padStart(bytes * 2, '0'), 'hex');
  if (little) content.reverse();
  content.copy(image, at);
}

/** Gives a field a value at some edge, or another bit; what was done. `unit` is what offsets of the format are multiples of. */
export function mutateField(random: Random, image: Buffer, field: Field, unit = 512): string {
  const bits = field.bytes * 8;
  const value = readField(image, field);
  const changed = random.chance(25)
    ? value ^ (1n << BigInt(random.integer(0, bits - 1)))
    : edgeValue(random, bits, { value, fileBytes: image.length, unit });
  writeField(image, field, changed);
  return `${field.name} at ${field.at}: ${value} becomes ${changed}`;
}
