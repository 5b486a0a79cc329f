import { decodeCluster } from './formats/qcow2/cluster.js';
import type { Qcow2Header } from './formats/qcow2/header.js';
import { parseL2, type Extent } from './formats/qcow2/mapping.js';
import type { KnownTables } from './one-pass.js';
import { createSegmentPool, createSlots, type Segment, type Slots } from './pool.js';
import type { ReadOutcome, Sink } from './progress.js';
import { joinNeighbours, planRequests, type HostRequest } from './host-requests.js';
import type { ImageSource } from './source/types.js';

/** Guest bytes that are read and written as one; four of them are under way at once. */
const WINDOW = 8 * 1024 * 1024;
const POOL = { segmentBytes: WINDOW, count: 4 };
/** Requests in flight: enough to keep the source's connections busy. */
const REQUESTS = 4;

interface RangedImage extends KnownTables {
  readonly header: Qcow2Header;
  readonly source: ImageSource;
  readonly fileBytes: number;
}

/**
 * Decodes a qcow2 in guest order (`design.md` §7.2): for each window the live ranges of the file are fetched, and the window
 * goes out in one large write. Progress and resume are one guest offset, a multiple of the window or the end.
 */
export async function copyRanged(image: RangedImage, sink: Sink): Promise<ReadOutcome> {
  const { virtualSize } = image.header;
  const pool = createSegmentPool(POOL);
  const running = new Map<number, Promise<void>>();
  const slots = createSlots(REQUESTS);
  let failure: { error: unknown } | undefined;
  let done = sink.completed;

  function launch(start: number, extents: readonly Extent[], segment: Segment): void {
    const filled = fillWindow(image, { start, extents, memory: segment.memory, slots }, sink)
      .then(() => advance(start))
      .catch((error: unknown) => void (failure ??= { error }))
      .finally(() => {
        running.delete(start);
        segment.release();
      });
    running.set(start, filled);
  }

  function advance(start: number): void {
    done += Math.min(WINDOW, virtualSize - start);
    sink.at(done);
  }

  try {
    for (let start = sink.completed; start < virtualSize && !failure; start += WINDOW) {
      sink.signal.throwIfAborted();
      const extents = await extentsOf(image, start);
      if (extents.length > 0) launch(start, extents, await pool.acquire());
      else advance(start);
      if (!failure) await sink.checkpoint(Math.min(start + WINDOW, ...running.keys()));
    }
  } catch (error) {
    failure ??= { error };
  }
  await Promise.all(running.values());
  if (failure) throw failure.error;
  return { virtualSize };
}

/** Live extents of one window. */
async function extentsOf({ header, l1, l2 }: RangedImage, start: number): Promise<Extent[]> {
  const { clusterSize, l2Entries, virtualSize } = header;
  const perTable = clusterSize * l2Entries;
  const end = Math.min(start + WINDOW, virtualSize);
  const firstTable = Math.floor(start / perTable);
  const lastTable = Math.ceil(end / perTable);
  const found: Extent[] = [];
  for (const [index, table] of (await l2.load(firstTable, lastTable)).entries()) {
    if (!table) continue;
    const base = (firstTable + index) * perTable;
    const first = Math.max(0, (start - base) / clusterSize);
    const last = Math.min(l2Entries, Math.ceil((end - base) / clusterSize));
    found.push(...parseL2(header, table, firstTable + index, l1.check, first, last));
  }
  return found;
}

interface Window {
  readonly start: number;
  readonly extents: readonly Extent[];
  readonly memory: Buffer;
  readonly slots: Slots;
}

/** Fetches, decodes and writes one window. */
async function fillWindow(image: RangedImage, window: Window, sink: Sink): Promise<void> {
  const length = Math.min(WINDOW, image.header.virtualSize - window.start);
  const live = window.extents.reduce(
    (sum, extent) => (extent.kind === 'data' ? sum + extent.length : sum),
    0,
  );
  if (live < length) window.memory.fill(0);
  const requests = planRequests(joinNeighbours(window.extents), image.fileBytes);
  await settleAll(requests.map((request) => window.slots.run(() => fetchInto(image, window, request))));
  await sink.writer.write(window.start, window.memory.subarray(0, length));
}

/** One request: straight into the window where it is one piece of data, else by way of a buffer. */
async function fetchInto(
  { header, source }: RangedImage,
  { start, memory }: Window,
  request: HostRequest,
): Promise<void> {
  const [only] = request.extents;
  if (request.extents.length === 1 && only?.kind === 'data') {
    const at = only.guest - start;
    return source.readInto(request.start, memory.subarray(at, at + request.end - request.start));
  }
  const bytes = Buffer.allocUnsafeSlow(request.end - request.start);
  await source.readInto(request.start, bytes);
  for (const { kind, guest, host, length } of request.extents) {
    const stored = bytes.subarray(host - request.start, host - request.start + length);
    const plain = kind === 'compressed' ? decodeCluster(header, guest, stored) : stored;
    plain.copy(memory, guest - start, 0, Math.min(plain.length, header.virtualSize - guest));
  }
}

/** Waits for all of them, so that nothing still writes into memory that is handed back, then fails as the first one did. */
async function settleAll(tasks: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(tasks)).find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
}
