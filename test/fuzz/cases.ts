import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { MIB } from '../image/support/images.js';
import { makeArchive } from './archives.js';
import { wrap } from './containers.js';
import type { FuzzJob } from './job.js';
import { mutate } from './mutations.js';
import { createRandom, type Random } from '../support/random.js';
import { makeValid, type ValidImage } from './valid-images.js';

/** Cases that are made of one valid image: making it is most of the work. */
const FAMILY = 8;
/** Of each family, those that are left valid. */
const LEFT_VALID = 2;
/** Larger files are not put into containers and not changed. In bytes. */
const LARGEST_CHANGED = 48 * MIB;

/** One image, and one way to read it. */
export interface FuzzCase {
  readonly number: number;
  readonly mutated: boolean;
  /** QEMU's name of the format that was made. */
  readonly driver: string;
  readonly story: readonly string[];
  readonly job: FuzzJob;
  /** The checksum that the job is given is another file's. */
  readonly wrongChecksum: boolean;
}

/** Makes cases; the same seed and number make the same again. */
export interface CaseMaker {
  make(number: number): FuzzCase;
}

/** Cases of a seed, in a directory. */
export function createCases(seed: string, directory: string): CaseMaker {
  let family: { number: number; image: ValidImage } | undefined;

  function familyOf(number: number): ValidImage {
    if (family?.number === number) return family.image;
    const room = `${directory}/family`;
    rmSync(room, { recursive: true, force: true });
    mkdirSync(room, { recursive: true });
    const random = createRandom(`${seed}/family/${number}`);
    const image = (random.chance(10) ? makeArchive : makeValid)(random, `${room}/image`);
    family = { number, image };
    return image;
  }

  return {
    make(number) {
      const image = familyOf(Math.floor(number / FAMILY));
      const room = `${directory}/case`;
      rmSync(room, { recursive: true, force: true });
      mkdirSync(room);
      const mutated = number % FAMILY >= LEFT_VALID && statSync(image.path).size <= LARGEST_CHANGED;
      return makeCase(createRandom(`${seed}/${number}`), image, { number, room, mutated });
    },
  };
}

interface Wanted {
  readonly number: number;
  readonly room: string;
  readonly mutated: boolean;
}

function makeCase(random: Random, image: ValidImage, { number, room, mutated }: Wanted): FuzzCase {
  const path = `${room}/image`;
  const story = [...image.story];
  const archive = image.driver === 'tar';
  const wrapped = !archive && statSync(image.path).size <= LARGEST_CHANGED && random.chance(45);
  // what is inside is changed, or the container around it
  const inside = mutated && (!wrapped || random.chance(40));
  const inner = `${room}/inner`;
  copySparse(image.path, inner);
  if (inside) story.push(...changeFile(random, inner, image.path));
  if (wrapped) story.push(...wrap(random, inner, path));
  else copySparse(inner, path);
  if (mutated && !inside) story.push(...changeFile(random, path, inner));
  rmSync(inner);
  const wrongChecksum = random.chance(4);
  const job = chooseJob(random, { path, room, archive, wrongChecksum });
  return { number, mutated, driver: image.driver, story, job, wrongChecksum };
}

function copySparse(from: string, to: string): void {
  execFileSync('cp', ['--sparse=always', from, to]);
}

function changeFile(random: Random, path: string, other: string): string[] {
  const { bytes, story } = mutate(random, readFileSync(path), readFileSync(other));
  writeFileSync(path, bytes);
  return story;
}

interface JobPlace {
  readonly path: string;
  readonly room: string;
  readonly archive: boolean;
  readonly wrongChecksum: boolean;
}

function chooseJob(random: Random, { path, room, archive, wrongChecksum }: JobPlace): FuzzJob {
  const size = statSync(path).size;
  const withChecksum = wrongChecksum || (random.chance(30) && size <= LARGEST_CHANGED);
  const algorithm = random.pick(['md5', 'sha1', 'sha256', 'sha512']);
  return {
    image: path,
    target: `${room}/target/${archive ? 'volume' : 'disk.img'}`,
    state: `${room}/state`,
    contentType: archive ? 'archive' : 'kubevirt',
    direct: random.chance(50),
    ...(random.chance(60) ? { scratch: `${room}/scratch` } : {}),
    ...(withChecksum ? { checksum: checksum(algorithm, path, wrongChecksum) } : {}),
    ...(random.chance(50)
      ? { usableBytes: random.pick([MIB, 4 * MIB, 16 * MIB, 64 * MIB, 1024 * MIB]) }
      : {}),
    source: {
      ranges: random.chance(65),
      length: random.chance(90),
      chunk: random.pick(
        [1, 7, 511, 4096, 65_536, 100_000, MIB, 4 * MIB].filter((chunk) => size / chunk < 3000),
      ),
      ...(random.chance(12) ? { failAfter: random.integer(0, size) } : {}),
      ...(random.chance(6) ? { loseRangesAfter: random.integer(0, size) } : {}),
    },
  };
}

function checksum(algorithm: string, path: string, wrong: boolean): string {
  const content = wrong ? Buffer.from('another file') : readFileSync(path);
  return `${algorithm}:${createHash(algorithm).update(content).digest('hex')}`;
}
