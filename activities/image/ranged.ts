import { createBreather } from './breathe.js';
import { createDecodePool } from './decode/decode-pool.js';
import type { Extent } from './formats/qcow2/mapping.js';
import { joinNeighbours } from './host-requests.js';
import { createSegmentPool, createSharedPool, type Segment } from './pool.js';
import type { ReadOutcome, Sink } from './progress.js';
import type { ImageSource } from './source/types.js';
import { holeIn, type Hole } from './writer.js';
import { fillWindow, type WindowSource } from './window.js';

/** Guest bytes that are read and written as one; {@link POOL} of them are under way at once (`performance.md` §11.6). */
export const WINDOW = 8 * 1024 * 1024;
const ZEROS = Buffer.alloc(64 * 1024);
/** What is fetched beside a window costs no memory where nothing is. */
const POOL = { segmentBytes: WINDOW, besideBytes: WINDOW, count: 8 };

/** Extents of all windows under way: of a disk in small scattered pieces fewer windows are, since each piece costs memory. */
const MOST_EXTENTS = 16_384;

/** Where a disk lies in a file. */
export interface DiskMap {
  /** Size the guest sees, in bytes. */
  readonly virtualSize: number;
  /** Live extents between two guest offsets, in guest order; what they leave out reads as zeros. */
  extents(start: number, end: number): Promise<readonly Extent[]>;
  /** Compressed clusters, where there can be any. */
  readonly clusters?: { readonly size: number; readonly compression: 'zlib' | 'zstd' };
}

/** An image whose bytes can be read in any order. */
export interface RangedImage {
  readonly map: DiskMap;
  readonly source: ImageSource;
  readonly fileBytes: number;
}

/** The map of a raw disk: each byte where it is. */
export function rawMap(bytes: number): DiskMap {
  return {
    virtualSize: bytes,
    extents: async (start, end) => [{ kind: 'data', guest: start, host: start, length: end - start }],
  };
}

/**
 * Reads a disk in guest order (`design.md` §7.2): for each window the live ranges of the file are fetched, and the window goes
 * out in large writes. Progress and resume are one guest offset, a multiple of the window or the end.
 */
export async function copyRanged({ map, source, fileBytes }: RangedImage, sink: Sink): Promise<ReadOutcome> {
  const { virtualSize, clusters } = map;
  const diskBytes = Math.max(virtualSize, sink.deviceBytes ?? 0);
  const shared = clusters && createSharedPool(POOL);
  const pool = shared ?? createSegmentPool(POOL);
  // V8 fills shared memory atomically, at a third of the speed at which Node copies into it
  const zeros = shared ? ZEROS : 0;
  await using decoding = shared && openDecoding(clusters, shared.shared, virtualSize);
  const windows: WindowSource = {
    readInto: (start, target) => source.readInto(start, target),
    fileBytes,
    ...(decoding ? { decoding } : {}),
  };
  const running = new Set<Promise<void>>();
  /** Windows that were begun and do not count yet, in order: behind one that is not written, or has failed, nothing counts. */
  const begun: { readonly start: number; readonly extents: number; written: boolean }[] = [];
  let next = sink.completed;
  let failure: { error: unknown } | undefined;
  let done = sink.completed;

  function launch(start: number, extents: readonly Extent[], segment: Segment): void {
    const window = { start, extents: extents.length, written: false };
    begun.push(window);
    const filled = copyWindow(start, extents, segment)
      .then(() => {
        window.written = true;
        advance(start);
      })
      .catch((error: unknown) => void (failure ??= { error }))
      .finally(() => {
        running.delete(filled);
        segment.release();
      });
    running.add(filled);
  }

  async function copyWindow(start: number, extents: readonly Extent[], segment: Segment): Promise<void> {
    // what lies behind the end of the disk goes nowhere
    const memory = segment.memory.subarray(0, Math.min(WINDOW, diskBytes - start));
    const place = { start, end: memory.length, fileBytes, clusterSize: clusters?.size ?? 0 };
    const gaps = gapsBetween(extents, place);
    const holes: Hole[] = [];
    for (const [from, to] of gaps) {
      // of a scattered disk most of each window is empty: filling it would take longer than the rest
      const hole = holeIn(from, to);
      if (hole) holes.push(hole);
      memory.fill(zeros, from, hole?.[0] ?? to);
      if (hole) memory.fill(zeros, hole[1], to);
    }
    await fillWindow(windows, { start, segment }, extents);
    // the last cluster may hold more than the disk
    if (start + WINDOW > virtualSize) memory.fill(0, Math.max(0, virtualSize - start));
    await sink.writer.cover(start, memory, holes);
  }

  /** Offset below which everything is written. */
  function counted(): number {
    while (begun[0]?.written) begun.shift();
    return begun[0]?.start ?? next;
  }

  /**
   * Whoever is killed fetches again what does not count: no more than the pool holds, however long the oldest window takes, as
   * where one connection stalls or a thread does not get its turn. And the next window's extents have to find room.
   */
  async function awaitOldest(extents: number): Promise<void> {
    const isFull = (): boolean => {
      const before = begun.reduce((sum, window) => sum + window.extents, 0);
      return begun.length >= POOL.count || (begun.length > 0 && before + extents > MOST_EXTENTS);
    };
    for (counted(); isFull() && !failure; counted()) await Promise.race(running);
  }

  function advance(start: number): void {
    done += Math.min(WINDOW, diskBytes - start);
    sink.at(done);
  }

  let saving: Promise<void> | undefined;
  /** Windows go on while a record is made: what it vouches for is written already. */
  function checkpoint(): void {
    saving ??= sink
      .checkpoint(counted())
      .catch((error: unknown) => void (failure ??= { error }))
      .finally(() => (saving = undefined));
  }

  const breathe = createBreather();
  try {
    let ahead = extentsOf(map, next);
    for (let start = next; start < diskBytes && !failure; start += WINDOW) {
      sink.signal.throwIfAborted();
      const extents = await ahead;
      // tables of the next window come while this one waits for memory
      ahead = extentsOf(map, start + WINDOW);
      ahead.catch(() => undefined);
      if (extents.length > 0) {
        await awaitOldest(extents.length);
        launch(start, extents, await pool.acquire());
      } else {
        await sink.writer.zero(start, Math.min(start + WINDOW, diskBytes));
        advance(start);
        await breathe();
      }
      next = start + WINDOW;
      checkpoint();
    }
    // on a slow line the windows of the end take as long as any
    while (running.size > 0 && !failure) {
      await Promise.race(running);
      checkpoint();
    }
  } catch (error) {
    failure ??= { error };
  }
  await Promise.all(running);
  await saving;
  if (!failure) return { virtualSize };
  // what was written before the failure need not be fetched again
  await sink.checkpoint(counted()).catch(() => undefined);
  throw failure.error;
}

/** Threads for compressed clusters. */
function openDecoding(
  { size, compression }: NonNullable<DiskMap['clusters']>,
  memory: SharedArrayBuffer,
  diskBytes: number,
): NonNullable<WindowSource['decoding']> & AsyncDisposable {
  const threads = createDecodePool({ compression, memory }, diskBytes);
  return {
    clusterSize: size,
    threads,
    [Symbol.asyncDispose]: () => threads.close(),
  };
}

async function extentsOf(map: DiskMap, start: number): Promise<readonly Extent[]> {
  const end = Math.min(start + WINDOW, map.virtualSize);
  return start < end ? joinNeighbours(await map.extents(start, end)) : [];
}

/** Where the extents of a window lie. */
interface Place {
  readonly start: number;
  /** Offset in the window at which the target ends. */
  readonly end: number;
  readonly fileBytes: number;
  /** 0 where nothing is compressed. */
  readonly clusterSize: number;
}

/** Stretches of a window, by offsets in it, that no extent fills; extents are in guest order, and a file may end inside its last cluster. */
function* gapsBetween(
  extents: readonly Extent[],
  { start, end, fileBytes, clusterSize }: Place,
): Generator<readonly [from: number, to: number]> {
  let at = 0;
  for (const { kind, guest, host, length } of extents) {
    const from = guest - start;
    if (from > at) yield [at, from];
    // a compressed cluster fills all of its place, or fails
    const filled = kind === 'data' ? Math.max(0, Math.min(length, fileBytes - host)) : clusterSize;
    at = Math.max(at, from + filled);
  }
  if (at < end) yield [at, end];
}
