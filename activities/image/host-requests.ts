import type { Extent } from './formats/qcow2/mapping.js';

/** A gap of dead bytes up to this size is read through: cheaper than another request. */
const MAX_GAP = 64 * 1024;
/** One request's size; more would keep the other connection idle. */
const MAX_REQUEST = 4 * 1024 * 1024;

/** A stretch of the file that is fetched at once, and what lies in it. */
export interface HostRequest {
  readonly start: number;
  readonly end: number;
  readonly extents: readonly Extent[];
}

/** Joins data that is contiguous both on the disk and in the file. `extents` are in guest order. */
export function joinNeighbours(extents: readonly Extent[]): Extent[] {
  const joined: Extent[] = [];
  for (const extent of extents) {
    const last = joined.at(-1);
    const continues =
      last?.kind === 'data' &&
      extent.kind === 'data' &&
      last.guest + last.length === extent.guest &&
      last.host + last.length === extent.host &&
      last.length + extent.length <= MAX_REQUEST;
    if (continues) joined[joined.length - 1] = { ...last, length: last.length + extent.length };
    else joined.push(extent);
  }
  return joined;
}

/**
 * Sorts extents by their place in the file and gathers close ones. Gaps read through never outweigh the live bytes, so that
 * small scattered clusters do not multiply what is fetched. A file that ends inside its last cluster is read to its end.
 */
export function planRequests(extents: readonly Extent[], fileBytes: number): HostRequest[] {
  const requests: { start: number; end: number; live: number; extents: Extent[] }[] = [];
  for (const extent of [...extents].sort((a, b) => a.host - b.host)) {
    const end = Math.min(extent.host + extent.length, fileBytes);
    const last = requests.at(-1);
    const gap = last ? extent.host - last.end : Infinity;
    if (last && gap <= Math.min(MAX_GAP, last.live) && end - last.start <= MAX_REQUEST) {
      last.live += Math.max(0, end - Math.max(last.end, extent.host));
      last.end = Math.max(last.end, end);
      last.extents.push(extent);
    } else requests.push({ start: extent.host, end, live: end - extent.host, extents: [extent] });
  }
  return requests;
}
