import { failureTypeOf } from '../failures.js';
import { createSegmentPool } from './pool.js';
import type { ReadOutcome, Sink } from './progress.js';
import { largerPvcRequired, type TargetSize } from './size.js';
import { createStage } from './stage.js';

/** 5 segments of 4 MiB: one gathers, the others are on their way to the disk. */
const POOL = { segmentBytes: 4 * 1024 * 1024, count: 5 };

/**
 * Copies a raw disk straight through. `start` is the disk offset of the stream's first byte: the durable offset where the
 * source can be entered in the middle, else 0, and what is durable is read but not written again.
 * @throws {@link FailureType} `LargerPVCRequired` as soon as the stream goes beyond the target
 */
export async function copyRaw(
  bytes: AsyncIterable<Buffer>,
  start: number,
  target: TargetSize,
  sink: Sink,
): Promise<ReadOutcome> {
  const stage = createStage(createSegmentPool(POOL), sink.writer, sink);
  let at = start;
  try {
    for await (const chunk of bytes) {
      sink.signal.throwIfAborted();
      const end = at + chunk.length;
      if (end > target.usableBytes) throw largerPvcRequired(`at least ${end}`, end, target);
      const skip = Math.max(0, Math.min(chunk.length, sink.completed - at));
      if (skip < chunk.length) await stage.write(at + skip, chunk.subarray(skip));
      at = end;
      if (at > sink.completed) await sink.checkpoint(at, () => stage.flush());
    }
    await stage.flush();
    return { virtualSize: at };
  } catch (error) {
    // what has come need not come again
    if (!sink.signal.aborted && failureTypeOf(error) === 'SourceUnavailable' && at > sink.completed)
      await sink.checkpoint(at, () => stage.flush(), true).catch(() => undefined);
    throw error;
  } finally {
    await stage.close();
  }
}
