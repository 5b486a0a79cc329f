import type { Random } from '../support/random.js';

/** What numbers of a field are told about. */
export interface Surroundings {
  /** The value that is there. */
  readonly value: bigint;
  /** Of the image. */
  readonly fileBytes: number;
  /** What things are multiples of. */
  readonly unit: number;
}

/** A value at some edge: of the field, of the file, of what is there, of the arithmetic of whoever reads it. */
export function edgeValue(random: Random, bits: number, { value, fileBytes, unit }: Surroundings): bigint {
  const [file, step] = [BigInt(fileBytes), BigInt(unit)];
  const end = (file / step) * step;
  const candidates = [
    ...[0n, 1n, 2n, 3n, 7n, 8n, 31n, 32n, 255n, 511n, 512n, 513n, 4096n, 65_535n, 65_536n],
    ...[31n, 32n, 33n, 48n, 52n, 53n, 55n, 56n, 61n, 62n, 63n, 64n].flatMap((power) => [
      2n ** power,
      2n ** power - 1n,
      2n ** power - step,
    ]),
    ...[value + 1n, value - 1n, value * 2n, value / 2n, value + step, value - step, ~value],
    ...[file, file - 1n, file + 1n, file - 512n, end, end - step, end + step, step, step * 2n, step * 3n],
    BigInt(random.integer(0, Math.floor(fileBytes / unit))) * step,
    BigInt(random.integer(0, 2 ** 32 - 1)),
  ];
  return BigInt.asUintN(bits, random.pick(candidates));
}
