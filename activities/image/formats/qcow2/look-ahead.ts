import { scratchRequired } from '../../refusals.js';
import { isZero } from '../../writer.js';

const PAGE_BYTES = 4096;

/** The last clusters that nothing has claimed yet; a table that comes later may map them. */
export interface LookAhead {
  /** Keeps a copy; the oldest go when there are too many. Zeros need no keeping. */
  hold(index: number, cluster: Buffer): void;
  /** Keeps nothing of a cluster whose bytes are where they belong; only that it has gone by. */
  pass(index: number): void;
  /** A cluster that has gone by. @throws {@link FailureType} `ScratchSpaceRequired` where it had to be let go */
  get(index: number): Buffer;
}

/** A look-ahead of at most `limit` bytes. What was let go is remembered by one bit a cluster, and only missed if it is asked for. */
export function createLookAhead(clusterSize: number, limit: number): LookAhead {
  const held = new Map<number, Buffer>();
  const lost = new Map<number, Uint8Array>();
  const zeros = Buffer.alloc(clusterSize);

  function forget(index: number): void {
    const bit = index % (PAGE_BYTES * 8);
    const number = (index - bit) / (PAGE_BYTES * 8);
    const page = lost.get(number) ?? new Uint8Array(PAGE_BYTES);
    page[bit >>> 3] = (page[bit >>> 3] ?? 0) | (1 << (bit & 7));
    lost.set(number, page);
    held.delete(index);
  }

  function isLost(index: number): boolean {
    const bit = index % (PAGE_BYTES * 8);
    const page = lost.get((index - bit) / (PAGE_BYTES * 8));
    return (((page?.[bit >>> 3] ?? 0) >>> (bit & 7)) & 1) === 1;
  }

  function hold(index: number, cluster: Buffer): void {
    if (isZero(cluster)) return;
    while ((held.size + 1) * clusterSize > limit)
      for (const oldest of held.keys()) if ((forget(oldest), true)) break;
    const copy = Buffer.alloc(clusterSize);
    cluster.copy(copy);
    held.set(index, copy);
  }

  function get(index: number): Buffer {
    const cluster = held.get(index);
    if (cluster) return cluster;
    if (isLost(index))
      throw scratchRequired(
        `qcow2 cluster at ${index * clusterSize} is mapped by a table that comes more than ${limit} bytes of the file later, or is mapped twice`,
      );
    return zeros;
  }
  return { hold, pass: forget, get };
}
