import type { ImageSource } from '../../source/types.js';
import type { Qcow2Header } from './header.js';
import { createMetadataCheck, parseL1, type MetadataCheck } from './mapping.js';

/** Bytes of L2 tables kept: at least one of the largest cluster size, many of the usual one. */
const CACHE_BYTES = 8 * 1024 * 1024;
const REQUEST_BYTES = 4 * 1024 * 1024;
/** Dead bytes between two tables that are read through, at most. */
const MAX_GAP = 64 * 1024;
/** Tables of small clusters that are asked for together: more would only queue. */
const MOST_AT_ONCE = 256;

/** Where the L2 tables are, proven against each other and against the file. */
export interface L1Table {
  readonly offsets: Float64Array;
  readonly check: MetadataCheck;
}

/** Reads and checks the L1 table by range. @throws {@link FailureType} `ImageInvalid`, `ImageHostile` */
export async function readL1(header: Qcow2Header, source: ImageSource, fileBytes?: number): Promise<L1Table> {
  const table = Buffer.alloc(header.l1Entries * 8);
  for (let at = 0; at < table.length; at += REQUEST_BYTES)
    await source.readInto(header.l1Offset + at, table.subarray(at, at + REQUEST_BYTES));
  const check = createMetadataCheck(header, fileBytes);
  return { offsets: parseL1(header, table, check), check };
}

/** L2 tables by L1 index, read by range when they are asked for; `undefined` where the guest's range has none. */
export interface L2Tables {
  /** Tables `first` to `last` (exclusive); neighbours in the file come in one request. */
  load(first: number, last: number): Promise<readonly (Buffer | undefined)[]>;
}

/** How many tables are loaded at once by whoever reads them all. */
export function tablesAtOnce({ clusterSize }: Qcow2Header): number {
  return Math.max(1, Math.min(MOST_AT_ONCE, REQUEST_BYTES / clusterSize));
}

/** A reader of L2 tables with a small cache: guest order asks for each table many times in a row. */
export function createL2Tables(header: Qcow2Header, l1: L1Table, source: ImageSource): L2Tables {
  const { clusterSize } = header;
  const cache = new Map<number, Buffer>();

  async function load(first: number, last: number): Promise<readonly (Buffer | undefined)[]> {
    const wanted = Array.from(l1.offsets.subarray(first, last));
    const missing = [...new Set(wanted.filter((offset) => offset !== 0 && !cache.has(offset)))].sort(
      (a, b) => a - b,
    );
    const fresh = new Map<number, Buffer>();
    // together: with small clusters a window has hundreds of tables, and each would cost a round trip
    await Promise.all(
      neighbours(missing, clusterSize).map(async (group) => {
        const start = group[0] ?? 0;
        const bytes = Buffer.allocUnsafeSlow((group.at(-1) ?? 0) + clusterSize - start);
        await source.readInto(start, bytes);
        for (const offset of group)
          fresh.set(offset, bytes.subarray(offset - start, offset - start + clusterSize));
      }),
    );
    const tables = wanted.map((offset) =>
      offset === 0 ? undefined : (fresh.get(offset) ?? cache.get(offset)),
    );
    for (const [offset, table] of fresh) cache.set(offset, table);
    while (cache.size > 1 && cache.size * clusterSize > CACHE_BYTES)
      for (const oldest of cache.keys()) if (cache.delete(oldest)) break;
    return tables;
  }
  return { load };
}

/**
 * Runs of offsets that are asked for at once, each at most one request long. Gaps are read through where they are small and do not
 * outweigh the tables, as between clusters of data.
 */
function neighbours(sorted: readonly number[], clusterSize: number): number[][] {
  const groups: number[][] = [];
  for (const offset of sorted) {
    const group = groups.at(-1);
    const [start = 0] = group ?? [];
    const bytes = offset + clusterSize - start;
    const live = ((group?.length ?? 0) + 1) * clusterSize;
    const gap = offset - (group?.at(-1) ?? 0) - clusterSize;
    if (group && gap <= MAX_GAP && bytes <= Math.min(REQUEST_BYTES, 2 * live)) group.push(offset);
    else groups.push([offset]);
  }
  return groups;
}
