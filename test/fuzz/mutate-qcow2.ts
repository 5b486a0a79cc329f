import { mutateField, readField, writeField, type Field } from './fields.js';
import type { Mutation } from './mutations.js';
import type { Random } from '../support/random.js';

const field = (name: string, at: number, bytes: 1 | 4 | 8): Field => ({ name, at, bytes });

/** Every integer of the header (QEMU `docs/interop/qcow2.txt`, "Header"). */
const HEADER: readonly Field[] = [
  field('version', 4, 4),
  field('backing_file_offset', 8, 8),
  field('backing_file_size', 16, 4),
  field('cluster_bits', 20, 4),
  field('size', 24, 8),
  field('crypt_method', 32, 4),
  field('l1_size', 36, 4),
  field('l1_table_offset', 40, 8),
  field('refcount_table_offset', 48, 8),
  field('refcount_table_clusters', 56, 4),
  field('nb_snapshots', 60, 4),
  field('snapshots_offset', 64, 8),
  field('incompatible_features', 72, 8),
  field('compatible_features', 80, 8),
  field('autoclear_features', 88, 8),
  field('refcount_order', 96, 4),
  field('header_length', 100, 4),
  field('compression_type', 104, 1),
];
const [, , , CLUSTER_BITS, , , L1_SIZE, L1_OFFSET, REFCOUNT_OFFSET] = HEADER as [
  Field,
  Field,
  Field,
  Field,
  Field,
  Field,
  Field,
  Field,
  Field,
];
/** Types of header extensions: backing format, features, bitmaps, data file, LUKS, end. */
const EXTENSIONS = [0xe279_2aca, 0x6803_f857, 0x2385_2875, 0x4441_5441, 0x0537_be77, 0];
const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;
const COMPRESSED = 1n << 62n;

/** Where things are in an image; an image that was changed before may say nonsense, which is kept inside the file. */
function locate(image: Buffer): { clusterSize: number; l1: number; l1Entries: number; refcounts: number } {
  const bits = Math.min(21, Math.max(9, Number(readField(image, CLUSTER_BITS))));
  const inside = (offset: bigint): number => (offset < BigInt(image.length) ? Number(offset) : 0);
  return {
    clusterSize: 2 ** bits,
    l1: inside(readField(image, L1_OFFSET)),
    l1Entries: Math.max(1, Math.min(4096, Number(readField(image, L1_SIZE)))),
    refcounts: inside(readField(image, REFCOUNT_OFFSET)),
  };
}

function headerField(random: Random, image: Buffer): string {
  const { clusterSize } = locate(image);
  return mutateField(random, image, random.pick(HEADER), clusterSize);
}

function l1Entry(random: Random, image: Buffer): Field {
  const { l1, l1Entries } = locate(image);
  return field('L1 entry', l1 + 8 * random.integer(0, l1Entries - 1), 8);
}

/** An entry of a table that is in use, if there is one. */
function l2Entry(random: Random, image: Buffer): Field | undefined {
  const { l1, l1Entries, clusterSize } = locate(image);
  const used = Array.from(
    { length: l1Entries },
    (_, index) => readField(image, field('', l1 + 8 * index, 8)) & OFFSET_MASK,
  ).filter((offset) => offset > 0n && offset + BigInt(clusterSize) <= BigInt(image.length));
  if (used.length === 0) return undefined;
  const table = Number(random.pick(used));
  const entries = Array.from({ length: clusterSize / 8 }, (_, index) =>
    field('L2 entry', table + 8 * index, 8),
  );
  const mapped = entries.filter((entry) => readField(image, entry) !== 0n);
  return random.pick(mapped.length > 0 && random.chance(80) ? mapped : entries);
}

function tableEntry(random: Random, image: Buffer): string {
  const entry = random.chance(30)
    ? l1Entry(random, image)
    : (l2Entry(random, image) ?? l1Entry(random, image));
  return random.chance(50)
    ? otherTarget(random, image, entry)
    : mutateField(random, image, entry, locate(image).clusterSize);
}

/** Lets an entry lead to something that is there: a table, the header, the end, another cluster; or makes another kind of it. */
function otherTarget(random: Random, image: Buffer, entry: Field): string {
  const { l1, refcounts, clusterSize } = locate(image);
  const old = readField(image, entry);
  const end = BigInt(Math.floor(image.length / clusterSize) * clusterSize);
  const another = readField(image, l2Entry(random, image) ?? entry);
  const sectors = BigInt(random.integer(0, 255)) << 54n;
  const value = random.pick([
    ...[0n, BigInt(l1), BigInt(refcounts), end, end - BigInt(clusterSize), another & OFFSET_MASK].map(
      (at) => at | (1n << 63n),
    ),
    ...[another, old | 1n, old ^ (1n << 63n), old ^ COMPRESSED, (old & OFFSET_MASK) | COMPRESSED | sectors],
    ...[old ^ BigInt(random.integer(1, 511)), (old & (2n ** 54n - 1n)) | COMPRESSED | sectors, old + 512n],
  ]);
  writeField(image, entry, BigInt.asUintN(64, value));
  return `${entry.name} at ${entry.at}: ${old.toString(16)} becomes ${value.toString(16)} (hex)`;
}

function refcount(random: Random, image: Buffer): string {
  const { refcounts, clusterSize } = locate(image);
  const block = readField(image, field('', refcounts, 8));
  const at = random.chance(50) || block >= BigInt(image.length) ? refcounts : Number(block);
  const entry = field('refcounts', at + 8 * random.integer(0, clusterSize / 8 - 1), 8);
  return mutateField(random, image, entry, clusterSize);
}

/** Bytes of a compressed cluster, its first or any. */
function compressedData(random: Random, image: Buffer): string {
  for (let tries = 0; tries < 20; tries += 1) {
    const entry = l2Entry(random, image);
    const value = entry ? readField(image, entry) : 0n;
    const at = Number(value & (2n ** 40n - 1n)) + random.pick([0, 1, random.integer(0, 600)]);
    if ((value & COMPRESSED) === 0n || at >= image.length) continue;
    image[at] = random.integer(0, 255);
    return `byte ${at} of a compressed cluster set`;
  }
  return headerField(random, image);
}

function extension(random: Random, image: Buffer): string {
  const version = image.readUInt32BE(4);
  const at = version === 2 ? 72 : Math.min(image.readUInt32BE(100), image.length - 16);
  if (at + 16 > image.length) return headerField(random, image);
  const type = random.pick(EXTENSIONS);
  image.writeUInt32BE(type, at);
  const length = mutateField(random, image, field('length', at + 4, 4));
  return `header extension ${type.toString(16)}, ${length}`;
}

/** One subcluster's state, or whatever lies beside an entry. */
function beside(random: Random, image: Buffer): string {
  const entry = l2Entry(random, image);
  if (!entry) return headerField(random, image);
  return mutateField(random, image, { ...entry, name: 'L2 bitmap', at: entry.at ^ 8 });
}

const MUTATIONS = [
  headerField,
  headerField,
  headerField,
  tableEntry,
  tableEntry,
  tableEntry,
  tableEntry,
  refcount,
  compressedData,
  compressedData,
  extension,
  beside,
];

/** Changes what a qcow2 means: a header field, an entry of a table, compressed data. */
export function mutateQcow2(random: Random, image: Buffer): Mutation {
  return { bytes: image, story: random.pick(MUTATIONS)(random, image) };
}
