import { createClusterBatches } from './cluster-batches.js';
import { createBreather } from './breathe.js';
import { createPieceReader, type PieceReader } from './formats/qcow2/cluster-reader.js';
import { parseHeader, type Qcow2Header } from './formats/qcow2/header.js';
import { createHeldTables, type HeldTables } from './formats/qcow2/held-tables.js';
import { createHostMap } from './formats/qcow2/host-map.js';
import { createLookAhead } from './formats/qcow2/look-ahead.js';
import { createMetadataCheck, parseL1, parseL2, type Extent } from './formats/qcow2/mapping.js';
import { tablesAtOnce, type L1Table, type L2Tables } from './formats/qcow2/tables.js';
import { joined } from './joined.js';
import { createSegmentPool } from './pool.js';
import type { ReadOutcome, Sink } from './progress.js';
import { LOOK_AHEAD_BYTES } from './read-plan.js';
import { invalid } from './refusals.js';
import { assertFits, type TargetSize } from './size.js';
import { createStage } from './stage.js';

const POOL = { segmentBytes: 4 * 1024 * 1024, count: 5 };
/** More of a header than the parser looks at. */
const HEADER_PEEK = 512;

/** Tables fetched by range before the stream begins, for layouts that put them after the data; they must be those of the stream. */
export interface KnownTables {
  readonly l1: L1Table;
  readonly l2: L2Tables;
}

/** What one pass is told besides the bytes. */
export interface OnePassOptions {
  readonly size: TargetSize;
  readonly fileBytes?: number;
  /** Fetches the tables, given the header; absent for a source that can only be read in order. */
  readonly tables?: (header: Qcow2Header) => Promise<KnownTables>;
}

/**
 * Decodes a qcow2 in the order of its file. Clusters that come before the table that maps them wait in a bounded look-ahead.
 * What an earlier attempt made durable (`sink.completed`, a file offset) is decoded again and not written again: each write
 * happens at a fixed point of the file, so "before that point" is the same in every attempt.
 */
export async function copyQcow2(
  bytes: AsyncIterable<Buffer>,
  options: OnePassOptions,
  sink: Sink,
): Promise<ReadOutcome> {
  const reader = createPieceReader(bytes);
  const header = parseHeader(await reader.peek(HEADER_PEEK), options.fileBytes);
  assertFits(header.virtualSize, options.size);
  const stage = createStage(createSegmentPool(POOL), sink.writer, sink);
  const breathe = createBreather();
  let position = 0;
  const { clusterSize, virtualSize } = header;
  const batches = createClusterBatches(header, (guest, cluster) =>
    stage.write(guest, cluster.subarray(0, Math.min(clusterSize, virtualSize - guest))),
  );
  const isDurable = (): boolean => position * clusterSize < sink.completed;
  const decoder = createDecoder(header, options.fileBytes, {
    data: async (guest, data) => (isDurable() ? undefined : await stage.write(guest, data)),
    compressed: async (guest, stored) => (isDurable() ? undefined : await batches.add(guest, stored)),
  });
  async function flush(): Promise<void> {
    await batches.flush();
    await stage.flush();
  }
  try {
    if (options.tables) await decoder.know(await options.tables(header));
    for await (const cluster of clustersOf(reader, header.clusterSize)) {
      sink.signal.throwIfAborted();
      await decoder.accept(position, cluster);
      position += 1;
      const offset = position * clusterSize;
      if (offset > sink.completed) await sink.checkpoint(offset, flush);
      await breathe();
    }
    await decoder.finish(position);
    await flush();
    return { virtualSize };
  } finally {
    await batches.close();
    await stage.close();
  }
}

/** Whole clusters; the last is padded with zeros, as QEMU reads a file that ends inside one. */
async function* clustersOf(reader: PieceReader, clusterSize: number): AsyncGenerator<Buffer> {
  for (let piece = await reader.next(clusterSize); piece; piece = await reader.next(clusterSize))
    yield piece.length === clusterSize ? piece : Buffer.concat([piece], clusterSize);
}

/** What becomes of guest bytes that were found in the file; the memory is valid until it resolves. */
interface Emit {
  data(guest: number, data: Buffer): Promise<void>;
  /** One cluster as it is stored, and what may follow it. */
  compressed(guest: number, stored: Buffer): Promise<void>;
}

interface Decoder {
  know(tables: KnownTables): Promise<void>;
  accept(index: number, cluster: Buffer): Promise<void>;
  finish(clusters: number): Promise<void>;
}

function createDecoder(header: Qcow2Header, fileBytes: number | undefined, emit: Emit): Decoder {
  const { clusterSize, virtualSize } = header;
  const map = createHostMap(clusterSize, virtualSize);
  const past = createLookAhead(clusterSize, LOOK_AHEAD_BYTES);
  const l2At = new Map<number, number>();
  const l1Bytes = Buffer.alloc(Math.ceil((header.l1Entries * 8) / clusterSize) * clusterSize);
  const l1First = header.l1Offset / clusterSize;
  const l1Last = l1First + l1Bytes.length / clusterSize - 1;
  let check = createMetadataCheck(header, fileBytes);
  let held: HeldTables | undefined;
  let l1Known = header.l1Entries === 0;

  const isWhole = ({ kind, guest, length }: Extent): boolean =>
    kind === 'data' && guest % clusterSize === 0 && length === Math.min(clusterSize, virtualSize - guest);
  const lastCluster = ({ kind, host, length }: Extent): number =>
    Math.floor((host + (kind === 'compressed' ? length - 1 : 0)) / clusterSize);

  async function know({ l1, l2 }: KnownTables): Promise<void> {
    check = l1.check;
    l1Known = true;
    held = createHeldTables(l1.offsets);
    const atOnce = tablesAtOnce(header);
    for (let first = 0; first < header.l1Entries; first += atOnce) {
      const tables = await l2.load(first, Math.min(first + atOnce, header.l1Entries));
      for (const [within, table] of tables.entries()) {
        if (!table) continue;
        held.hold((l1.offsets[first + within] ?? 0) / clusterSize, table);
        for (const extent of parseL2(header, table, first + within, check)) map.add(extent, isWhole(extent));
      }
    }
  }

  async function resolve(extent: Extent, bytesOf: (index: number) => Buffer): Promise<void> {
    const first = Math.floor(extent.host / clusterSize);
    const within = extent.host - first * clusterSize;
    if (extent.kind === 'data')
      return emit.data(extent.guest, bytesOf(first).subarray(within, within + extent.length));
    const pieces: Buffer[] = [];
    for (let index = first; index <= lastCluster(extent); index += 1) pieces.push(bytesOf(index));
    await emit.compressed(extent.guest, joined(pieces).subarray(within, within + extent.length));
  }

  async function applyL2(l1Index: number, table: Buffer, now: number): Promise<void> {
    for (const extent of parseL2(header, table, l1Index, check)) {
      if (lastCluster(extent) <= now) await resolve(extent, (wanted) => past.get(wanted));
      else map.add(extent, isWhole(extent));
    }
  }

  async function acceptL1(index: number, cluster: Buffer): Promise<void> {
    cluster.copy(l1Bytes, (index - l1First) * clusterSize);
    if (index !== l1Last) return;
    if (held) return held.compareL1(parseL1(header, l1Bytes, createMetadataCheck(header, fileBytes)));
    l1Known = true;
    const offsets = parseL1(header, l1Bytes, check);
    for (const [l1Index, offset] of offsets.entries()) {
      const at = offset / clusterSize;
      if (offset !== 0 && at > index) l2At.set(at, l1Index);
      else if (offset !== 0) await applyL2(l1Index, past.get(at), index);
    }
  }

  async function accept(index: number, cluster: Buffer): Promise<void> {
    const extents = map.take(index);
    for (const extent of extents)
      await resolve(extent, (wanted) => (wanted === index ? cluster : past.get(wanted)));
    held?.compare(index, cluster);
    if ((held !== undefined || !l1Known) && index >= l1First && index <= l1Last)
      return acceptL1(index, cluster);
    const l1Index = l2At.get(index);
    if (l1Index === undefined) return extents.some(isWhole) ? past.pass(index) : past.hold(index, cluster);
    l2At.delete(index);
    return applyL2(l1Index, cluster, index);
  }

  async function finish(clusters: number): Promise<void> {
    held?.finish();
    if (!l1Known)
      throw invalid(
        `qcow2 image is cut short: the stream ends after ${clusters * clusterSize} bytes, before its L1 table`,
      );
    if (l2At.size > 0)
      throw invalid(`qcow2 image is cut short: the stream ends before ${l2At.size} of its L2 tables`);
    for (const extent of map.rest()) {
      // a compressed cluster's sector count may reach beyond the end of the file
      const begins = extent.kind === 'compressed' && Math.floor(extent.host / clusterSize) < clusters;
      if (!begins)
        throw invalid(
          `qcow2 image is cut short: cluster of guest offset ${extent.guest} is at ${extent.host}, the stream ends before`,
        );
      await resolve(extent, (index) => (index < clusters ? past.get(index) : Buffer.alloc(clusterSize)));
    }
  }
  return { know, accept, finish };
}
