import type { Extent } from './formats/qcow2/mapping.js';

/** A gap of dead bytes up to this size is read through: cheaper than another request. */
const MAX_GAP = 64 * 1024;
/** One request's size; more would keep the other connection idle. */
const MAX_REQUEST = 4 * 1024 * 1024;
/** Data from this size on is fetched by itself, straight into its place: a request costs less than a copy. */
const WORTH_A_REQUEST = 64 * 1024;

/** A stretch of the file that is fetched at once, and what lies in it. */
export interface HostRequest {
  readonly start: number;
  readonly end: number;
  readonly extents: readonly Extent[];
}

/** Joins data that is contiguous both on the disk and in the file, and cuts it to requests. `extents` are in guest order. */
export function joinNeighbours(extents: Iterable<Extent>): Extent[] {
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
    else if (extent.kind === 'data') joined.push(...pieces(extent));
    else joined.push(extent);
  }
  return joined;
}

/** An extent of a raw disk is as long as the window. */
function* pieces(extent: Extent): Generator<Extent> {
  for (let at = 0; at < extent.length; at += MAX_REQUEST)
    yield {
      ...extent,
      guest: extent.guest + at,
      host: extent.host + at,
      length: Math.min(MAX_REQUEST, extent.length - at),
    };
}

/**
 * Sorts extents by their place in the file and gathers small and compressed ones that lie close. Gaps read through never outweigh
 * the live bytes, so that scattered clusters do not multiply what is fetched. A file that ends inside its last cluster is read to
 * its end.
 */
export function* planRequests(extents: readonly Extent[], fileBytes: number): Generator<HostRequest, void> {
  let open: { start: number; end: number; live: number; dead: number; extents: Extent[] } | undefined;
  for (const extent of [...extents].sort((a, b) => a.host - b.host)) {
    const end = Math.min(extent.host + extent.length, fileBytes);
    const alone = extent.kind === 'data' && extent.length >= WORTH_A_REQUEST;
    const gap = open ? extent.host - open.end : Infinity;
    const isClose = open && gap <= MAX_GAP && open.dead + gap <= open.live;
    if (open && isClose && !alone && end - open.start <= MAX_REQUEST) {
      open.dead += Math.max(0, gap);
      open.live += Math.max(0, end - Math.max(open.end, extent.host));
      open.end = Math.max(open.end, end);
      open.extents.push(extent);
      continue;
    }
    const request = { start: extent.host, end, live: end - extent.host, dead: 0, extents: [extent] };
    if (alone) yield request;
    else {
      if (open) yield open;
      open = request;
    }
  }
  if (open) yield open;
}
