import type { DecodePool } from './decode/decode-pool.js';
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

/** Compressed clusters that are decoded at once: numbers of a {@link DecodeOrder}, and where each is on the disk. */
interface Round {
  readonly entries: number[];
  readonly guests: number[];
  readonly clusterSize: number;
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
    const round: Round = { entries: [], guests: [], clusterSize: decoding?.clusterSize ?? 0 };
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
      place(window, taken, round);
    });
    if (decoding && round.guests.length > 0) await decodeAll(decoding.threads, round);
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
    while (!failure) {
      const one = take();
      if (one === undefined) return;
      await work(one).catch((error: unknown) => void (failure ??= { error }));
    }
  }
  await Promise.all(Array.from({ length: LANES }, lane));
  if (failure) throw failure.error;
}

/** Copies what is data and was not fetched into its place; adds what is compressed to the round. */
function place({ start, segment }: Window, { request, memory }: Fetch, round: Round): void {
  for (const { kind, host, guest, length } of request.extents) {
    const from = host - request.start;
    const stored = memory.subarray(from, Math.min(from + length, memory.length));
    const target = guest - start;
    if (kind === 'compressed') {
      const output = segment.memory.byteOffset + target;
      round.entries.push(stored.byteOffset, stored.length, output, round.clusterSize);
      round.guests.push(guest);
    } else if (request.extents.length > 1) stored.copy(segment.memory, target);
  }
}

async function decodeAll(threads: DecodePool, { entries, guests, clusterSize }: Round): Promise<void> {
  const failed = await threads.decode(Float64Array.from(entries));
  if (failed) throw refuseCluster(failed.outcome, guests[failed.index] ?? 0, clusterSize);
}
