import { closeSync, mkdirSync, openSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bash, run } from './processes.js';

const CLUSTER = 64 * 1024;
const MOST_CLUSTERS = 16;

/** A stretch of the disk that one write covers, in bytes. */
export interface Extent {
  readonly start: number;
  readonly length: number;
}

/** One step of an image's life: lines for `qemu-io`, or one call of `qemu-img`. */
export type Step = { readonly io: readonly string[] } | { readonly img: readonly string[] };

interface MapEntry extends Extent {
  readonly data: boolean;
}

/**
 * Makes an image that has been used for long and holds the same disk as `base`: created smaller and resized, written in random
 * order, overwritten, discarded in part, two internal snapshots of which one is deleted. Its live clusters lie in thousands of
 * runs between those of the snapshot that is left.
 */
export async function makeWorn(base: string, output: string, scratch: string): Promise<void> {
  rmSync(scratch, { recursive: true, force: true });
  mkdirSync(scratch, { recursive: true });
  const map = JSON.parse(await run('qemu-img', ['map', '-f', 'raw', '--output=json', base])) as MapEntry[];
  const random = randomNumbers(4);
  const extents = splitExtents(map, random);
  cutSlices(base, extents, scratch);
  const size = map.reduce((end, { start, length }) => Math.max(end, start + length), 0);
  for (const step of lifeOf(output, { size, extents, random })) {
    if ('img' in step) await run('qemu-img', step.img);
    else {
      writeFileSync(join(scratch, 'commands'), step.io.join('\n') + '\n');
      await bash('qemu-io -f qcow2 -t unsafe -d unmap "$OUTPUT" < commands > log', {
        env: { OUTPUT: output },
        cwd: scratch,
      });
    }
  }
  rmSync(scratch, { recursive: true, force: true });
}

/** Numbers from 0 up to 1 that are the same each time. */
export function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** The data of a disk in stretches of 64 KiB to 1 MiB, on cluster borders: what a guest writes at once. */
export function splitExtents(map: readonly MapEntry[], random: () => number): readonly Extent[] {
  const extents: Extent[] = [];
  let done = 0;
  for (const { start, length, data } of map) {
    if (!data) continue;
    const end = Math.ceil((start + length) / CLUSTER) * CLUSTER;
    for (let at = Math.max(done, Math.floor(start / CLUSTER) * CLUSTER); at < end; at = done) {
      // the square makes short stretches more frequent: 350 KiB on average
      const clusters = 1 + Math.floor(MOST_CLUSTERS * random() ** 2);
      done = Math.min(end, at + clusters * CLUSTER);
      extents.push({ start: at, length: done - at });
    }
  }
  return extents;
}

/** What a life is made of. */
export interface Life {
  readonly size: number;
  readonly extents: readonly Extent[];
  readonly random: () => number;
}

/** The steps that make the image, with the true content of each extent in a file of its number; the last one writes every extent as it must be, in random order. */
export function lifeOf(output: string, { size, extents, random }: Life): readonly Step[] {
  const small = Math.ceil((size * 2) / 3 / CLUSTER) * CLUSTER;
  const early = extents.flatMap(({ start, length }, index) => (start + length <= small ? [index] : []));
  const all = extents.map((_, index) => index);
  const some = (from: readonly number[], part: number): number[] => from.filter(() => random() < part);
  const write = (index: number, content = index): string => {
    const { start, length } = extents[index] ?? { start: 0, length: 0 };
    return `write -q -s ${content} ${start} ${length}`;
  };
  // what was there before is another part of the disk, so that it compresses and compares like data
  const old = (indexes: readonly number[]): string[] =>
    shuffled(indexes, random).map((index) => write(index, (index * 7 + 3) % extents.length));
  const discard = (indexes: readonly number[]): string[] =>
    indexes.map((index) => `discard -q ${extents[index]?.start} ${extents[index]?.length}`);
  const snapshot = (flag: '-c' | '-d', name: string): Step => ({ img: ['snapshot', flag, name, output] });
  return [
    { img: ['create', '-q', '-f', 'qcow2', output, String(small)] },
    { io: old(some(early, 0.6)) },
    snapshot('-c', 'first'),
    { img: ['resize', '-q', output, String(size)] },
    { io: [...old(some(all, 0.35)), ...discard(some(all, 0.1))] },
    snapshot('-c', 'second'),
    { io: old(some(all, 0.3)) },
    snapshot('-d', 'first'),
    { io: [...discard(some(all, 0.2)), ...shuffled(all, random).map((index) => write(index))] },
  ];
}

function shuffled(indexes: readonly number[], random: () => number): number[] {
  return indexes
    .map((index) => [random(), index] as const)
    .sort(([one], [other]) => one - other)
    .map(([, index]) => index);
}

function cutSlices(base: string, extents: readonly Extent[], directory: string): void {
  const fd = openSync(base, 'r');
  try {
    extents.forEach(({ start, length }, index) => {
      const content = Buffer.alloc(length);
      readSync(fd, content, 0, length, start);
      writeFileSync(join(directory, String(index)), content);
    });
  } finally {
    closeSync(fd);
  }
}
