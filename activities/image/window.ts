import type { DecodePool } from './decode/decode-pool.js';
import type { ClusterDecoder } from './decode/cluster-decoder.js';
import { ENTRY_NUMBERS } from './decode/decode-protocol.js';
import { refuseCluster } from './formats/qcow2/cluster.js';
import type { CompressedExtent, Extent } from './formats/qcow2/mapping.js';
import { planRequests, type HostRequest } from './host-requests.js';
import type { Segment } from './pool.js';

/** What windows are filled from. */
export interface WindowSource {
  readonly readInto: (start: number, target: Uint8Array) => Promise<void>;
  /** Length of the image file. */
  readonly fileBytes: number;
  /** What decodes compressed clusters, where there can be any. */
  readonly decoding?: Decoding;
}

/** Threads that decode in the pool's memory; and the same on this thread, for what does not fit there. */
export interface Decoding {
  readonly clusterSize: number;
  readonly threads: DecodePool;
  readonly decode: ClusterDecoder;
}

/** A stretch of the disk in memory. */
export interface Window {
  /** Guest offset of its first byte. */
  readonly start: number;
  readonly segment: Segment;
}

/** One fetched request: its bytes lie in the pool (`memory` is part of `segment.beside`) or in a buffer of their own. */
interface Fetched {
  readonly request: HostRequest;
  readonly memory: Buffer;
  readonly inPool: boolean;
}

/**
 * Fetches the live ranges of one window and puts them where they belong: data straight into its place, what is compressed beside
 * it and from there, by a thread, into its place. What no extent covers is left as it is.
 * @throws {@link FailureType} `ImageInvalid`, `ImageHostile`, and what the source throws
 */
export async function fillWindow(
  source: WindowSource,
  window: Window,
  extents: readonly Extent[],
): Promise<void> {
  const fetching = assignMemory(window, planRequests(extents, source.fileBytes)).map(async (fetched) => {
    const { start, end } = fetched.request;
    await source.readInto(start, fetched.memory.subarray(0, end - start));
    return fetched;
  });
  const fetched = await settleAll(fetching);
  const threaded = fetched.flatMap((one) => place(source.decoding, window, one));
  if (source.decoding && threaded.length > 0) await decodeAll(source.decoding, window, threaded);
}

/** Data alone goes into its place; the rest beside the window, one after another, or into memory of its own. */
function assignMemory({ start, segment }: Window, requests: readonly HostRequest[]): Fetched[] {
  let used = 0;
  return requests.map((request) => {
    const length = request.end - request.start;
    const [only] = request.extents;
    if (only?.kind === 'data' && request.extents.length === 1) {
      const at = only.guest - start;
      return { request, memory: segment.memory.subarray(at, at + length), inPool: true };
    }
    if (used + length > segment.beside.length)
      return { request, memory: Buffer.allocUnsafeSlow(length), inPool: false };
    used += length;
    return { request, memory: segment.beside.subarray(used - length, used), inPool: true };
  });
}

/** A cluster that a thread will decode. */
interface Threaded {
  readonly extent: CompressedExtent;
  readonly stored: Buffer;
}

/** Copies what is data and was not fetched into its place; hands back what is left to threads. */
function place(
  decoding: Decoding | undefined,
  window: Window,
  { request, memory, inPool }: Fetched,
): Threaded[] {
  const { start, segment } = window;
  const threaded: Threaded[] = [];
  for (const extent of request.extents) {
    const from = extent.host - request.start;
    const stored = memory.subarray(from, Math.min(from + extent.length, request.end - request.start));
    const target = segment.memory.subarray(extent.guest - start);
    if (extent.kind === 'data' && request.extents.length > 1) stored.copy(target);
    else if (extent.kind === 'compressed' && inPool) threaded.push({ extent, stored });
    else if (extent.kind === 'compressed' && decoding) {
      const outcome = decoding.decode(stored, target.subarray(0, decoding.clusterSize));
      if (outcome !== 'ok') throw refuseCluster(outcome, extent.guest, decoding.clusterSize);
    }
  }
  return threaded;
}

async function decodeAll(
  { threads, clusterSize }: Decoding,
  { start, segment }: Window,
  clusters: readonly Threaded[],
): Promise<void> {
  const entries = new Float64Array(clusters.length * ENTRY_NUMBERS);
  clusters.forEach(({ extent, stored }, index) =>
    entries.set(
      [stored.byteOffset, stored.length, segment.memory.byteOffset + extent.guest - start, clusterSize],
      index * ENTRY_NUMBERS,
    ),
  );
  const failed = await threads.decode(entries);
  const guest = failed && clusters[failed.index]?.extent.guest;
  if (failed && guest !== undefined) throw refuseCluster(failed.outcome, guest, clusterSize);
}

/** Waits for all of them, so that nothing still writes into memory that is handed back, then fails as the first one did. */
async function settleAll<T>(tasks: readonly Promise<T>[]): Promise<T[]> {
  const results = await Promise.allSettled(tasks);
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}
