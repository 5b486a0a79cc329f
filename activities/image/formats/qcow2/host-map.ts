import { scratchRequired } from '../../refusals.js';
import type { CompressedExtent, DataExtent, Extent } from './mapping.js';

const PAGE_ENTRIES = 512;
/** 64 MiB, as many clusters as a disk may have to be read in one pass; tables that scatter them further get lists. */
const MAX_PAGES = 16_384;
/** More is not looked at: each of them is an error. */
const MAX_REST = 1000;
/** Compressed clusters and parts of clusters that are known but have not come by yet; a writer puts one table ahead of its data. */
const MAX_PENDING = 400_000;

/** What the tables read so far say about clusters of the file that are still to come. */
export interface HostMap {
  add(extent: Extent, wholeCluster: boolean): void;
  /** Everything that can be done once cluster `index` is there; forgets it. */
  take(index: number): readonly Extent[];
  /** What never came. */
  rest(): readonly Extent[];
}

/** A map by host cluster: 8 bytes for a whole cluster of data, lists for the rest. */
export function createHostMap(clusterSize: number, virtualSize: number): HostMap {
  const pages = new Map<number, { guests: Float64Array; used: number }>();
  const lists = new Map<number, Extent[]>();
  let pending = 0;

  function add(extent: Extent, wholeCluster: boolean): void {
    const index = Math.floor(
      (extent.host + (extent.kind === 'compressed' ? extent.length - 1 : 0)) / clusterSize,
    );
    if (extent.kind === 'data' && wholeCluster && addWhole(index, extent)) return;
    pending += 1;
    if (pending > MAX_PENDING)
      throw scratchRequired(`more than ${MAX_PENDING} clusters lie far behind the tables that map them`);
    const list = lists.get(index);
    if (list) list.push(extent);
    else lists.set(index, [extent]);
  }

  function addWhole(index: number, { guest }: DataExtent): boolean {
    const number = Math.floor(index / PAGE_ENTRIES);
    const known = pages.get(number);
    if (!known && pages.size === MAX_PAGES) return false;
    const page = known ?? { guests: new Float64Array(PAGE_ENTRIES), used: 0 };
    if (page.guests[index % PAGE_ENTRIES] !== 0) return false;
    page.guests[index % PAGE_ENTRIES] = guest / clusterSize + 1;
    page.used += 1;
    pages.set(number, page);
    return true;
  }

  function takeWhole(index: number): DataExtent | undefined {
    const number = Math.floor(index / PAGE_ENTRIES);
    const page = pages.get(number);
    const slot = page?.guests[index % PAGE_ENTRIES] ?? 0;
    if (!page || slot === 0) return undefined;
    page.guests[index % PAGE_ENTRIES] = 0;
    page.used -= 1;
    if (page.used === 0) pages.delete(number);
    return whole(index, slot);
  }

  function whole(index: number, slot: number): DataExtent {
    const guest = (slot - 1) * clusterSize;
    return {
      kind: 'data',
      guest,
      host: index * clusterSize,
      length: Math.min(clusterSize, virtualSize - guest),
    };
  }

  function take(index: number): readonly Extent[] {
    const list = lists.get(index) ?? [];
    if (lists.delete(index)) pending -= list.length;
    const first = takeWhole(index);
    return first ? [first, ...list] : list;
  }

  function rest(): readonly Extent[] {
    const found: Extent[] = [...lists.values()].flat();
    for (const [number, { guests }] of pages) {
      if (found.length >= MAX_REST) break;
      for (const [at, slot] of guests.entries())
        if (slot !== 0) found.push(whole(number * PAGE_ENTRIES + at, slot));
    }
    return found;
  }
  return { add, take, rest };
}

/** Narrows to compressed extents. */
export function isCompressed(extent: Extent): extent is CompressedExtent {
  return extent.kind === 'compressed';
}
