import { mutateField } from './fields.js';
import type { Mutation } from './mutations.js';
import type { Random } from '../support/random.js';

type Mutate = (random: Random, bytes: Buffer, other: Buffer) => Mutation;

/** A place anywhere, at an end more often than chance would have it. */
function place(random: Random, bytes: Buffer): number {
  const last = Math.max(0, bytes.length - 1);
  const near = Math.min(last, random.pick([32, 512, 4096, 65_536]));
  return random.pick([random.integer(0, last), random.integer(0, near), last - random.integer(0, near)]);
}

const flipBits: Mutate = (random, bytes) => {
  const at = place(random, bytes);
  bytes[at] = (bytes[at] ?? 0) ^ (1 << random.integer(0, 7));
  return { bytes, story: `bit of byte ${at} flipped` };
};

const setBytes: Mutate = (random, bytes) => {
  const at = place(random, bytes);
  const length = random.integer(1, 16);
  random.bytes(length).copy(bytes, at);
  return { bytes, story: `${length} bytes at ${at} set` };
};

const setInteger: Mutate = (random, bytes) => {
  const size = random.pick([1, 2, 4, 8] as const);
  const at = Math.floor(place(random, bytes) / size) * size;
  return {
    bytes,
    story: mutateField(random, bytes, { name: 'integer', at, bytes: size, little: random.chance(50) }),
  };
};

const truncate: Mutate = (random, bytes) => {
  const length = random.chance(30) ? bytes.length - random.integer(1, 512) : place(random, bytes);
  return { bytes: bytes.subarray(0, Math.max(0, length)), story: `cut to ${length} bytes` };
};

const append: Mutate = (random, bytes) => {
  const length = random.pick([1, 4, 511, 512, 513, 4096, 65_536]);
  const garbage = random.chance(50) ? Buffer.alloc(length) : random.bytes(Math.min(length, 600));
  return { bytes: Buffer.concat([bytes, garbage]), story: `${garbage.length} bytes appended` };
};

/** Copies a block onto another one, moves it, or leaves zeros or noise. */
const moveBlock: Mutate = (random, bytes) => {
  const size = random.pick([16, 512, 4096, 65_536]);
  const blocks = Math.floor(bytes.length / size);
  if (blocks < 2) return flipBits(random, bytes, bytes);
  const [from, to] = [random.integer(0, blocks - 1) * size, random.integer(0, blocks - 1) * size];
  const how = random.pick(['copied', 'moved', 'zeroed', 'noise'] as const);
  if (how === 'copied' || how === 'moved') bytes.copy(bytes, to, from, from + size);
  if (how === 'noise') random.bytes(Math.min(size, 512)).copy(bytes, from);
  else if (how !== 'copied') bytes.fill(0, from, from + size);
  return { bytes, story: `block of ${size} at ${from} ${how}, to ${to}` };
};

/** The beginning of one file and the end of another. */
const splice: Mutate = (random, bytes, other) => {
  const at = place(random, bytes);
  const from = Math.min(at, Math.max(0, other.length - 1));
  if (random.chance(50))
    return {
      bytes: Buffer.concat([bytes.subarray(0, at), other.subarray(from)]),
      story: `other file from ${at}`,
    };
  other.copy(bytes, at, from, from + random.pick([64, 512, 4096, 65_536]));
  return { bytes, story: `piece of another file at ${at}` };
};

const insert: Mutate = (random, bytes) => {
  const at = place(random, bytes);
  const added = random.bytes(random.pick([1, 8, 512]));
  return {
    bytes: Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(at + (random.chance(30) ? 1 : 0))]),
    story: `${added.length} bytes inserted at ${at}`,
  };
};

const MUTATIONS: readonly Mutate[] = [
  flipBits,
  flipBits,
  setBytes,
  setInteger,
  setInteger,
  truncate,
  append,
  moveBlock,
  splice,
  insert,
];

/** Changes bytes of any file, without knowing what they mean. */
export function mutateBytes(random: Random, bytes: Buffer, other: Buffer): Mutation {
  return random.pick(MUTATIONS)(random, bytes, other);
}
