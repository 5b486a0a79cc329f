import { createStreamedSource } from '../source/streamed-source.js';
import type { ImageSource, RestartPoint } from '../source/types.js';
import type { DecompressOptions } from './gzip.js';
import { headInside } from './head.js';

/** Restart points kept: those that may still lie before what is durable by the next record. */
const MOST_POINTS = 4096;

type Decompress = (source: AsyncIterable<Buffer>, options?: DecompressOptions) => AsyncIterable<Buffer>;

/**
 * What a stream decompresses to. It can be read from its start; a later attempt, told `from`, from one of its restart points on,
 * if the compressed bytes can be read from there.
 */
export async function openCompressed(
  inner: ImageSource,
  decompress: Decompress,
  from?: RestartPoint,
): Promise<ImageSource> {
  const outside = await inner.probe();
  const points: RestartPoint[] = from ? [from] : [];

  function onRestartPoint(point: RestartPoint): void {
    points.push(point);
    if (points.length > MOST_POINTS) points.splice(1, 1);
  }
  const streamed = createStreamedSource({
    open: () => decompress(inner.stream(0), { onRestartPoint }),
    async facts() {
      const { length: _, ...validators } = outside.validators;
      return { displayUrl: outside.displayUrl, validators };
    },
    head: () => headInside(outside, decompress),
    bytesRead: () => inner.bytesRead,
  });

  async function* enter(point: RestartPoint, start: number): AsyncGenerator<Buffer> {
    let skip = start - point.outer;
    for await (const chunk of decompress(inner.stream(point.inner), { from: point, onRestartPoint })) {
      if (chunk.length > skip) yield chunk.subarray(skip);
      skip -= Math.min(skip, chunk.length);
    }
  }
  return {
    ...streamed,
    stream: (start) =>
      from && outside.seekable && from.outer <= start ? enter(from, start) : streamed.stream(start),
    restartPoint: (outer) => (outside.seekable ? lastBefore(points, outer) : undefined),
    get bytesRead() {
      return inner.bytesRead;
    },
  };
}

/** Points lie in ascending order; those before the answer are not needed any more. */
function lastBefore(points: RestartPoint[], outer: number): RestartPoint | undefined {
  const index = points.findLastIndex((point) => point.outer <= outer);
  if (index > 0) points.splice(0, index);
  return index >= 0 ? points[0] : undefined;
}
