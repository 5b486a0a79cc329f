import { rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { makeRaw, MIB, qemuImg } from '../image/support/images.js';
import { KINDS } from '../image/foreign/support.js';
import type { Random } from '../support/random.js';
import { makeQcow2 } from './valid-qcow2.js';
import { wear } from './wear.js';

/** An image that `qemu-img` has made. */
export interface ValidImage {
  readonly path: string;
  /** QEMU's name of the format. */
  readonly driver: string;
  /** How it was made, for people. */
  readonly story: readonly string[];
}

/** Kinds of images, as often as they are listed. */
const MAKERS: readonly ((random: Random, path: string) => ValidImage)[] = [
  makeQcow2,
  makeQcow2,
  makeQcow2,
  makeQcow2,
  makeForeign,
  makeForeign,
  makeFixedVhd,
  makeRawDisk,
];

/** Makes an image of some format, with some of its options, in some state of wear. */
export function makeValid(random: Random, path: string): ValidImage {
  return random.pick(MAKERS)(random, path);
}

/** A raw disk for `qemu-img` to convert, of some size; not always of whole sectors. */
export function makeContent(random: Random, path: string): string {
  const bytes = random.integer(1, 12) * (MIB / 2) - random.pick([0, 0, 0, 512, 4096, 61_440]);
  return makeRaw(path, bytes, random.integer(1, 2 ** 31));
}

function makeForeign(random: Random, path: string): ValidImage {
  const kind = random.pick(KINDS);
  const raw = makeContent(random, `${path}.raw`);
  kind.make(raw, path);
  rmSync(raw);
  const story = [kind.name];
  const written = kind.subformat !== 'streamOptimized' && random.chance(50);
  if (written) story.push(...wear(random, { path, driver: kind.driver, bytes: statSync(path).size / 2 }));
  return { path, driver: kind.driver, story };
}

function makeFixedVhd(random: Random, path: string): ValidImage {
  const raw = makeContent(random, `${path}.raw`);
  const options = `subformat=fixed,force_size=${random.pick(['on', 'off'])}`;
  qemuImg('convert', '-f', 'raw', '-O', 'vpc', '-o', options, raw, path);
  rmSync(raw);
  return { path, driver: 'vpc', story: [`VHD ${options}`] };
}

function makeRawDisk(random: Random, path: string): ValidImage {
  const bytes = 512 * random.integer(0, 8192) + random.pick([0, 0, 1, 511, 513]) || 1;
  if (random.chance(20)) {
    writeFileSync(path, '');
    truncateSync(path, bytes * 16);
    return { path, driver: 'raw', story: [`a raw disk of ${bytes * 16} zeros`] };
  }
  makeRaw(path, bytes, random.integer(1, 2 ** 31));
  return { path, driver: 'raw', story: [`a raw disk of ${bytes} bytes`] };
}
