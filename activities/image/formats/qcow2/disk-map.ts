import type { DiskMap } from '../../ranged.js';
import type { Qcow2Header } from './header.js';
import { parseL2, type Extent } from './mapping.js';
import type { L1Table, L2Tables } from './tables.js';

/** The map of a qcow2's active state, read table by table as it is asked for. */
export function qcow2Map(header: Qcow2Header, l1: L1Table, l2: L2Tables): DiskMap {
  const { clusterSize, l2Entries, virtualSize, compression } = header;
  const perTable = clusterSize * l2Entries;

  async function extents(start: number, end: number): Promise<readonly Extent[]> {
    const firstTable = Math.floor(start / perTable);
    const lastTable = Math.ceil(end / perTable);
    const found: Extent[] = [];
    for (const [index, table] of (await l2.load(firstTable, lastTable)).entries()) {
      if (!table) continue;
      const base = (firstTable + index) * perTable;
      const first = Math.max(0, (start - base) / clusterSize);
      const last = Math.min(l2Entries, Math.ceil((end - base) / clusterSize));
      for (const extent of parseL2(header, table, firstTable + index, l1.check, first, last))
        found.push(extent);
    }
    return found;
  }
  return { virtualSize, extents, clusters: { size: clusterSize, compression } };
}
