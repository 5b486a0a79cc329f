import { hostile, invalid } from '../../refusals.js';
import type { Qcow2Header } from './header.js';

/** Guest bytes that lie as they are in the image file. */
export interface DataExtent {
  readonly kind: 'data';
  readonly guest: number;
  readonly host: number;
  readonly length: number;
}

/** One compressed cluster; `length` is the upper bound that the entry's sector count gives. */
export interface CompressedExtent {
  readonly kind: 'compressed';
  readonly guest: number;
  readonly host: number;
  readonly length: number;
}

/** What an L2 table says about guest bytes; what it does not mention reads as zeros. */
export type Extent = DataExtent | CompressedExtent;

const SUBCLUSTERS = 32;
/** Offsets are below 2^53 where the high word is below 2^21. */
const SAFE_HIGH = 2 ** 21;

/** Host offset in a table entry (bits 9 to 55, spec "Cluster mapping"), or 0 for none. */
function entryOffset(high: number, low: number): number {
  const upper = high & 0x00ff_ffff;
  return upper >= SAFE_HIGH ? Infinity : upper * 2 ** 32 + ((low & 0xffff_fe00) >>> 0);
}

/** Offsets of the L2 tables that `table` (bytes of the L1 table from its start) names, 0 where a range has none. */
export function parseL1(header: Qcow2Header, table: Buffer, check: MetadataCheck): Float64Array {
  const offsets = new Float64Array(header.l1Entries);
  for (let index = 0; index < header.l1Entries; index += 1) {
    const offset = entryOffset(table.readUInt32BE(index * 8), table.readUInt32BE(index * 8 + 4));
    if (offset !== 0) check.table(`L2 table ${index}`, offset);
    offsets[index] = offset;
  }
  check.distinct(offsets);
  return offsets;
}

/** Checks where tables and clusters lie: inside the file, aligned, on nothing that is taken. */
export interface MetadataCheck {
  /** A one-cluster table at this offset. */
  table(name: string, offset: number): void;
  /** No two L2 tables at one place; remembers where they are. */
  distinct(offsets: Float64Array): void;
  /** Guest data in these bytes. */
  data(guest: number, host: number, length: number): void;
}

/** A check by the header's tables, and by the L2 tables once `distinct` has seen them. */
export function createMetadataCheck(header: Qcow2Header, fileBytes = Infinity): MetadataCheck {
  const { clusterSize } = header;
  const end = (offset: number, bytes: number): number =>
    Math.ceil((offset + bytes) / clusterSize) * clusterSize;
  const fixed: readonly (readonly [string, number, number])[] = [
    ['the header', 0, clusterSize],
    ['the L1 table', header.l1Offset, end(header.l1Offset, header.l1TableEntries * 8)],
    ['the refcount table', header.refcountOffset, header.refcountOffset + header.refcountBytes],
  ];
  let sorted: Float64Array = new Float64Array(0);

  function taken(from: number, to: number): string | undefined {
    const hit = fixed.find(([, start, stop]) => from < stop && start < to && stop > start);
    return hit?.[0];
  }
  function table(name: string, offset: number): void {
    if (offset % clusterSize !== 0)
      throw invalid(`qcow2 ${name} at ${offset} is not aligned to clusters of ${clusterSize} bytes`);
    if (offset + clusterSize > fileBytes)
      throw invalid(
        `qcow2 ${name} ends at ${offset + clusterSize}, the file at ${fileBytes}: it is cut short`,
      );
    const under = taken(offset, offset + clusterSize);
    if (under) throw hostile(`qcow2 ${name} at ${offset} overlaps ${under}`);
  }
  function distinct(offsets: Float64Array): void {
    sorted = offsets.filter((offset) => offset !== 0).sort();
    const twice = sorted.find((offset, index) => sorted[index - 1] === offset);
    if (twice !== undefined) throw hostile(`qcow2 L2 tables overlap: two L1 entries name ${twice}`);
  }
  function data(guest: number, host: number, length: number): void {
    if (host >= fileBytes)
      throw invalid(
        `qcow2 cluster of guest offset ${guest} is at ${host}, the file ends at ${fileBytes}: it is cut short`,
      );
    const under =
      taken(host, host + length) ??
      (meetsTable(sorted, clusterSize, host, length) ? 'an L2 table' : undefined);
    if (under) throw hostile(`qcow2 cluster of guest offset ${guest} at ${host} overlaps ${under}`);
  }
  return { table, distinct, data };
}

function meetsTable(sorted: Float64Array, clusterSize: number, host: number, length: number): boolean {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] ?? 0) + clusterSize <= host) low = middle + 1;
    else high = middle;
  }
  return (sorted[low] ?? Infinity) < host + length;
}

/** What entries `first` to `last` (exclusive) of L2 table `l1Index` map, in guest order, cut at the end of the disk. */
export function* parseL2(
  header: Qcow2Header,
  table: Buffer,
  l1Index: number,
  check: MetadataCheck,
  first = 0,
  last = header.l2Entries,
): Generator<Extent> {
  const { clusterSize, l2EntryBytes, l2Entries, virtualSize } = header;
  for (let index = first; index < last; index += 1) {
    const guest = (l1Index * l2Entries + index) * clusterSize;
    if (guest >= virtualSize) return;
    const at = index * l2EntryBytes;
    const high = table.readUInt32BE(at);
    const low = table.readUInt32BE(at + 4);
    const length = Math.min(clusterSize, virtualSize - guest);
    if (high & 0x4000_0000) yield compressedExtent(header, guest, high, low, check);
    else if (header.extendedL2)
      yield* subclusters(header, { guest, length, host: entryOffset(high, low), table, at }, check);
    else
      yield* plainCluster(
        header,
        { guest, length, host: entryOffset(high, low), zero: (low & 1) === 1 },
        check,
      );
  }
}

interface Cluster {
  readonly guest: number;
  readonly length: number;
  readonly host: number;
}

function* plainCluster(
  header: Qcow2Header,
  cluster: Cluster & { zero: boolean },
  check: MetadataCheck,
): Generator<Extent> {
  const { guest, host, length } = cluster;
  // the bit is reserved there; QEMU marks such an image as corrupt
  if (cluster.zero && header.version === 2)
    throw invalid(`qcow2 cluster of guest offset ${guest} is marked as zeros, which version 2 does not know`);
  if (host === 0) return;
  checkCluster(header, guest, host);
  if (cluster.zero) return;
  check.data(guest, host, length);
  yield { kind: 'data', guest, host, length };
}

function* subclusters(
  header: Qcow2Header,
  cluster: Cluster & { table: Buffer; at: number },
  check: MetadataCheck,
): Generator<Extent> {
  const { guest, host, length, table, at } = cluster;
  const zeros = table.readUInt32BE(at + 8);
  const allocated = table.readUInt32BE(at + 12);
  if (zeros & allocated)
    throw invalid(`qcow2 subclusters of guest offset ${guest} are both allocated and zero`);
  if (host !== 0) checkCluster(header, guest, host);
  if (allocated === 0) return;
  if (host === 0) throw invalid(`qcow2 subclusters of guest offset ${guest} are allocated without a cluster`);
  check.data(guest, host, length);
  const size = header.clusterSize / SUBCLUSTERS;
  for (let first = 0; first < SUBCLUSTERS; first += 1) {
    if (!((allocated >>> first) & 1)) continue;
    let next = first + 1;
    while (next < SUBCLUSTERS && (allocated >>> next) & 1) next += 1;
    const bytes = Math.min(next * size, length) - first * size;
    if (bytes > 0)
      yield { kind: 'data', guest: guest + first * size, host: host + first * size, length: bytes };
    first = next;
  }
}

/** Also of a cluster that is not read: QEMU marks an image that keeps one at such a place as corrupt. */
function checkCluster({ clusterSize }: Qcow2Header, guest: number, host: number): void {
  if (host % clusterSize !== 0)
    throw invalid(
      `qcow2 cluster of guest offset ${guest} at ${host} is not aligned to clusters of ${clusterSize} bytes`,
    );
}

/** Compressed descriptor: x = 62 - (cluster_bits - 8) bits of offset, then the number of additional sectors. */
function compressedExtent(
  header: Qcow2Header,
  guest: number,
  high: number,
  low: number,
  check: MetadataCheck,
): CompressedExtent {
  const offsetBits = 70 - Math.log2(header.clusterSize) - 32;
  const upper = high & (2 ** offsetBits - 1);
  const host = upper >= SAFE_HIGH ? Infinity : upper * 2 ** 32 + low;
  const sectors = (high >>> offsetBits) & (2 ** (30 - offsetBits) - 1);
  const length = (sectors + 1) * 512 - (host % 512);
  check.data(guest, host, 1);
  return { kind: 'compressed', guest, host, length };
}
