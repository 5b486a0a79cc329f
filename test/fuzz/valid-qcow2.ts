import { rmSync } from 'node:fs';
import { makeRaw, MIB, qemuImg } from '../image/support/images.js';
import type { Random } from '../support/random.js';
import { runIo, wear, WRITES } from './wear.js';
import type { ValidImage } from './valid-images.js';

const GIB = 1024 * MIB;
/** Compressed writes too. */
const QCOW2_WRITES = [...WRITES, 'write -c'] as const;

/** What one image is made with. */
interface Plan {
  readonly clusterSize: number;
  readonly bytes: number;
  readonly options: string;
  readonly compat: string;
}

/** A qcow2 with some of its options: created and written to, or converted; then changed as owners of disks change them. */
export function makeQcow2(random: Random, path: string): ValidImage {
  const plan = choose(random);
  const story = random.chance(60) ? create(random, path, plan) : convert(random, path, plan);
  for (let count = random.integer(0, 4); count > 0; count -= 1) story.push(change(random, path, plan));
  if (plan.options.includes('lazy_refcounts=on') && random.chance(40)) story.push(die(path));
  return { path, driver: 'qcow2', story };
}

function choose(random: Random): Plan {
  const compat = random.chance(15) ? '0.10' : '1.1';
  const clusterSize = 2 ** random.pick([9, 10, 12, 12, 13, 14, 15, 16, 16, 16, 17, 18, 20, 21]);
  const options = [`compat=${compat}`, `cluster_size=${clusterSize}`];
  if (compat === '1.1') {
    options.push(`lazy_refcounts=${random.pick(['on', 'off', 'off'])}`);
    options.push(`refcount_bits=${2 ** random.pick([0, 1, 2, 3, 4, 4, 4, 5, 6])}`);
    options.push(`compression_type=${random.pick(['zlib', 'zstd'])}`);
    if (clusterSize >= 16_384 && random.chance(40)) options.push('extended_l2=on');
  }
  return { compat, clusterSize, bytes: chooseSize(random, clusterSize), options: options.join(',') };
}

/** Mostly small; seldom as large as tables of these clusters allow for within moments. */
function chooseSize(random: Random, clusterSize: number): number {
  if (random.chance(10) && clusterSize >= 16_384)
    return 512 * random.integer(2 * 1024 * 1024, (64 * GIB) / 512);
  return 512 * random.integer(1, 16_384);
}

function create(random: Random, path: string, { bytes, options }: Plan): string[] {
  const preallocation =
    bytes > GIB ? 'off' : random.pick(['off', 'off', 'off', 'metadata', 'falloc', 'full']);
  const all = `${options},preallocation=${preallocation}`;
  qemuImg('create', '-q', '-f', 'qcow2', '-o', all, path, `${bytes}`);
  return [
    `create -o ${all} ${bytes}`,
    ...wear(random, { path, driver: 'qcow2', bytes, commands: QCOW2_WRITES }),
  ];
}

function convert(random: Random, path: string, { bytes, options }: Plan): string[] {
  const raw = makeRaw(`${path}.raw`, Math.min(bytes, 6 * MIB), random.integer(1, 2 ** 31));
  const how = [
    ...random.pick([[], ['-c'], ['-c'], ['-S', '0'], ['-S', '4k']]),
    ...random.pick([[], [], ['-W', '-m', '8']]),
  ];
  qemuImg('convert', '-f', 'raw', '-O', 'qcow2', ...how, '-o', options, raw, path);
  rmSync(raw);
  return [`convert ${how.join(' ')} -o ${options}`];
}

function change(random: Random, path: string, plan: Plan): string {
  const name = random.pick(['a', 'b', 'c']);
  const size = 512 * random.integer(1, random.chance(20) ? (4 * GIB) / 512 : 16_384);
  const commands: readonly (readonly string[])[] = [
    ['snapshot', '-c', name, path],
    ['snapshot', '-c', name, path],
    ['snapshot', '-a', name, path],
    ['snapshot', '-d', name, path],
    ['resize', '-q', '-f', 'qcow2', path, `${size}`],
    ['resize', '-q', '-f', 'qcow2', '--shrink', path, `${size}`],
    ['bitmap', '--add', '-f', 'qcow2', path, name],
    ['amend', '-f', 'qcow2', '-o', `compat=${random.pick(['0.10', '1.1'])}`, path],
  ];
  if (random.chance(40))
    return wear(random, { path, driver: 'qcow2', bytes: plan.bytes, commands: QCOW2_WRITES }).join('; ');
  const command = random.pick(commands);
  try {
    qemuImg(...command);
    return command.slice(0, -1).join(' ');
  } catch {
    // no such snapshot, refcounts too small for one, a bitmap in version 2: the image is as it was
    return `${command[0]} (refused)`;
  }
}

/** A process that dies with the image open leaves it marked dirty. */
function die(path: string): string {
  runIo(path, 'qcow2', ['write -P 77 0 65536', 'flush', 'sigraise 9']);
  return 'sigraise 9';
}
