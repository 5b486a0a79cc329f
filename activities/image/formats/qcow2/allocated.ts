import type { OpenedImage } from '../../open-image.js';
import { parseL2 } from './mapping.js';
import { createL2Tables, readL1, tablesAtOnce } from './tables.js';

/** L2 tables that are read for the sake of a figure, in bytes. */
const MOST_TABLE_BYTES = 512 * 1024;

/** Bytes that the active state of an image occupies in its file, where that takes little reading; of foreign formats what their header says. */
export async function countAllocated({
  qcow2,
  foreign,
  view,
  facts,
}: OpenedImage): Promise<number | undefined> {
  if (!qcow2) return foreign?.allocatedBytes;
  if (!facts.ranges || qcow2.l1Entries * 8 > MOST_TABLE_BYTES) return undefined;
  const l1 = await readL1(qcow2, view, facts.validators.length);
  const tables = l1.offsets.filter((offset) => offset !== 0).length;
  if (tables * qcow2.clusterSize > MOST_TABLE_BYTES) return undefined;
  const l2 = createL2Tables(qcow2, l1, view);
  let bytes = 0;
  const atOnce = tablesAtOnce(qcow2);
  for (let first = 0; first < qcow2.l1Entries; first += atOnce)
    for (const [within, table] of (await l2.load(first, Math.min(first + atOnce, qcow2.l1Entries))).entries())
      if (table) for (const { length } of parseL2(qcow2, table, first + within, l1.check)) bytes += length;
  return bytes;
}
