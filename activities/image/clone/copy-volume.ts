/** The disk of a volume into another one: its blocks shared, its extents read and written, or copied by the kernel. */
import { transientFailure } from '../../failures.js';
import { codeOf } from '../../node/directories.js';
import type { ConvertJob } from '../convert-job.js';
import { copyRanged, type DiskMap } from '../ranged.js';
import type { ReadOutcome, Sink } from '../progress.js';
import type { ImageSource, Stretch } from '../source/types.js';

/** What the kernel copies at once: a cancel waits for no more. */
const PIECE = 16 * 1024 * 1024;
/** Where the kernel copies nothing between these two, reading and writing does. */
const CANNOT: readonly unknown[] = ['EXDEV', 'EINVAL', 'ENOSYS', 'EOPNOTSUPP', 'ETXTBSY', 'EPERM'];

/** A disk, and what it is copied for. */
export interface VolumeCopy {
  readonly source: ImageSource;
  readonly bytes: number;
  /** How: with shared blocks, if the file system still can; into blocks of its own where they are preallocated. */
  readonly job: Pick<ConvertJob, 'preallocation' | 'reflink'>;
}

/** Copies the disk; progress and resume are one offset. */
export async function copyVolume(copy: VolumeCopy, sink: Sink): Promise<ReadOutcome> {
  const { source, bytes, job } = copy;
  const toFile = source.kernel !== undefined && sink.deviceBytes === undefined && !job.preallocation;
  if (toFile && job.reflink && !sink.existing && (await shareBlocks(source, bytes, sink)))
    return { virtualSize: bytes };
  // The kernel's own copy shares blocks where it can, too. Where it cannot, it goes through the page cache, in one thread.
  const byKernel = toFile && (job.reflink === true || !sink.writer.direct);
  if (!byKernel || !(await copyExtents(source, bytes, sink)))
    return await copyRanged({ map: mapOf(source, bytes), source, fileBytes: bytes }, sink);
  return { virtualSize: bytes };
}

/** Where the data of a volume lies: each byte where it is, without the holes. */
function mapOf(source: ImageSource, bytes: number): DiskMap {
  return {
    virtualSize: bytes,
    async extents(start, end) {
      const found = (await source.stretches?.(start, end)) ?? [{ start, end }];
      return found.map((one) => ({
        kind: 'data',
        guest: one.start,
        host: one.start,
        length: one.end - one.start,
      }));
    },
  };
}

/** A file that is longer than the disk cannot take a last block that is not whole, so it has no length yet. */
async function shareBlocks(
  { kernel }: ImageSource,
  bytes: number,
  { writer, diskBytes }: Sink,
): Promise<boolean> {
  await writer.truncate(0);
  let refused: string | undefined;
  await writer.fill(async (fd) => {
    refused = kernel?.reflink(fd);
    return 0;
  });
  await writer.truncate(Math.max(bytes, diskBytes === Infinity ? 0 : diskBytes));
  return refused === undefined;
}

/** False where the kernel cannot do it for these two. */
async function copyExtents(source: ImageSource, bytes: number, sink: Sink): Promise<boolean> {
  const { kernel } = source;
  if (!kernel) return false;
  for (let at = sink.completed; at < bytes; at += PIECE) {
    const end = Math.min(at + PIECE, bytes);
    for (const stretch of (await source.stretches?.(at, end)) ?? [{ start: at, end }])
      if (!(await copyStretch(kernel, stretch, sink))) return false;
    sink.at(end);
    await sink.checkpoint(end);
  }
  return true;
}

async function copyStretch(
  kernel: NonNullable<ImageSource['kernel']>,
  { start, end }: Stretch,
  { writer, signal }: Sink,
): Promise<boolean> {
  for (let at = start; at < end;) {
    signal.throwIfAborted();
    try {
      const count = await writer.fill((fd) => kernel.copy(fd, { start: at, end }));
      if (count === 0)
        throw transientFailure(
          'SourceChanged',
          `source changed: it ends after ${at} bytes, ${end} were there before`,
        );
      at += count;
    } catch (error) {
      if (CANNOT.includes(codeOf(error))) return false;
      throw error;
    }
  }
  return true;
}
