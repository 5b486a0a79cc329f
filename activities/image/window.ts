import type { DecodePool } from './decode/decode-pool.js';
import { ENTRY_NUMBERS } from './decode/decode-protocol.js';
import { refuseCluster } from './formats/qcow2/cluster.js';
import type { Extent } from './formats/qcow2/mapping.js';
import { planRequests, type HostRequest } from './host-requests.js';
import type { Segment } from './pool.js';

/** Requests of one window that wait for the source at once: it reads on two connections, and a window may need thousands. */
const LANES = 16;

/** What windows are filled from. */
export interface WindowSource {
  readonly readInto: (start: number, target: Uint8Array) => Promise<void>;
  /** Length of the image file. */
  readonly fileBytes: number;
  /** What decodes compressed clusters, where there can be any. */
  readonly decoding?: Decoding;
}

/** Threads that decode in the pool's memory. */
export interface Decoding {
  readonly clusterSize: number;
  readonly threads: DecodePool;
}

/** A stretch of the disk in memory. */
export interface Window {
  /** Guest offset of its first byte. */
  readonly start: number;
  /** With room beside it for the longest request. */
  readonly segment: Segment;
}

/** One request, and the part of the segment that it is fetched into. */
interface Fetch {
  readonly request: HostRequest;
  readonly memory: Buffer;
}

/**
 * Fetches the live ranges of one window and puts them where they belong: data straight into its place, what is compressed or small
 * beside it and from there, by a thread, into its place. What no extent covers is left as it is. No other memory than the segment's
 * is used, however the image is scattered: what does not fit beside the window at once comes in rounds, and a request is made when
 * its turn has come.
 * @throws {@link FailureType} `ImageInvalid`, `ImageHostile`, and what the source throws
 */
export async function fillWindow(
  { readInto, fileBytes, decoding }: WindowSource,
  window: Window,
  extents: readonly Extent[],
): Promise<void> {
  const requests = planRequests(extents, fileBytes);
  for (let ahead = requests.next(); !ahead.done;) {
    const { beside } = window.segment;
    const entries: number[] = [];
    const clusterSize = decoding?.clusterSize ?? 0;
    let used = 0;
    const take = (): Fetch | undefined => {
      if (ahead.done) return undefined;
      const request = ahead.value;
      const length = request.end - request.start;
      const own = ownPlace(window, request);
      if (!own && used > 0 && used + length > beside.length) return undefined;
      ahead = requests.next();
      if (own) return { request, memory: own };
      used += length;
      return { request, memory: beside.subarray(used - length, used) };
    };
    await inLanes(take, async (taken) => {
      await readInto(taken.request.start, taken.memory);
      place(window, taken, { entries, clusterSize });
    });
    if (decoding && entries.length > 0) await decodeAll(decoding, window, entries);
  }
}

/** Data alone needs no copy. */
function ownPlace({ start, segment }: Window, { extents, ...request }: HostRequest): Buffer | undefined {
  const [only] = extents;
  if (only?.kind !== 'data' || extents.length > 1) return undefined;
  const at = only.guest - start;
  return segment.memory.subarray(at, at + request.end - request.start);
}

/** Waits for all that was asked for, so that nothing still writes into memory that is handed back; then fails as the first one did. */
async function inLanes<T>(take: () => T | undefined, work: (one: T) => Promise<void>): Promise<void> {
  let failure: { readonly error: unknown } | undefined;
  async function lane(): Promise<void> {
    for (let one = failure ? undefined : take(); one !== undefined; one = failure ? undefined : take())
      await work(one).catch((error: unknown) => void (failure ??= { error }));
  }
  await Promise.all(Array.from({ length: LANES }, lane));
  if (failure) throw failure.error;
}

/** Copies what is data and was not fetched into its place; adds what is compressed to the entries of a {@link DecodeOrder}. */
function place(
  { start, segment }: Window,
  { request, memory }: Fetch,
  { entries, clusterSize }: { readonly entries: number[]; readonly clusterSize: number },
): void {
  for (const { kind, host, guest, length } of request.extents) {
    const from = host - request.start;
    const stored = memory.subarray(from, Math.min(from + length, memory.length));
    const target = guest - start;
    if (kind === 'compressed')
      entries.push(stored.byteOffset, stored.length, segment.memory.byteOffset + target, clusterSize);
    else if (request.extents.length > 1) stored.copy(segment.memory, target);
  }
}

async function decodeAll(
  { threads, clusterSize }: Decoding,
  { start, segment }: Window,
  entries: readonly number[],
): Promise<void> {
  const failed = await threads.decode(Float64Array.from(entries));
  if (!failed) return;
  const target = entries[failed.index * ENTRY_NUMBERS + 2] ?? 0;
  throw refuseCluster(failed.outcome, start + target - segment.memory.byteOffset, clusterSize);
}
