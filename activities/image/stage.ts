import type { Segment, SegmentPool } from './pool.js';
import { isZero, type SparseWriter } from './writer.js';

/** Gathers pieces that arrive in any order into large aligned writes. */
export interface Stage {
  /** Takes a copy of `data`; waits while all memory is in use. */
  write(offset: number, data: Buffer): Promise<void>;
  /** Everything taken so far has been written to the target (not yet synced). */
  flush(): Promise<void>;
  /** Writes under way have ended, well or not; nothing more is written. */
  close(): Promise<void>;
}

interface OpenSegment extends Segment {
  readonly index: number;
}

/**
 * A stage over a pool. A segment is one aligned stretch of the disk; it starts as zeros, or, where the target may hold data of
 * an earlier visit or attempt (`existing`), as what is there. The oldest segment goes out when there are `open` of them.
 */
export function createStage(
  pool: SegmentPool,
  writer: SparseWriter,
  { diskBytes, existing, open = 3 }: { diskBytes: number; existing: boolean; open?: number },
): Stage {
  const { segmentBytes } = pool;
  const segments = new Map<number, OpenSegment>();
  const visited = new Set<number>();
  const leaving = new Map<number, Promise<void>>();
  let failure: { error: unknown } | undefined;

  async function enter(index: number): Promise<OpenSegment> {
    if (segments.size >= open) for (const oldest of segments.values()) return (leave(oldest), enter(index));
    await leaving.get(index);
    const segment = { ...(await pool.acquire()), index };
    if (existing || visited.has(index)) await writer.read(index * segmentBytes, segment.memory);
    else segment.memory.fill(0);
    segments.set(index, segment);
    return segment;
  }

  /** Starts writing a segment out; an error surfaces at the next call. */
  function leave(segment: OpenSegment): void {
    segments.delete(segment.index);
    visited.add(segment.index);
    const start = segment.index * segmentBytes;
    const length = Math.min(segmentBytes, diskBytes - start);
    const done = writer
      .write(start, segment.memory.subarray(0, length))
      .catch((error: unknown) => void (failure ??= { error }))
      .finally(() => {
        leaving.delete(segment.index);
        segment.release();
      });
    leaving.set(segment.index, done);
  }

  function rethrow(): void {
    if (failure) throw failure.error;
  }

  async function write(offset: number, data: Buffer): Promise<void> {
    for (let at = 0; at < data.length;) {
      rethrow();
      const index = Math.floor((offset + at) / segmentBytes);
      const within = offset + at - index * segmentBytes;
      const piece = data.subarray(at, at + segmentBytes - within);
      const open = segments.get(index);
      // zeros are there already: of a disk nothing is written twice, and what is not written reads as zeros
      if (!open && isZero(piece)) {
        at += piece.length;
        continue;
      }
      const segment = open ?? (await enter(index));
      const count = piece.copy(segment.memory, within);
      at += count;
      if (within + count === segmentBytes) leave(segment);
    }
  }

  async function flush(): Promise<void> {
    for (const segment of [...segments.values()]) leave(segment);
    await Promise.all(leaving.values());
    rethrow();
  }

  async function close(): Promise<void> {
    await Promise.all(leaving.values());
  }
  return { write, flush, close };
}
