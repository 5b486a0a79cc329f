import { transientFailure } from '../../../failures.js';
import type { NbdExport } from '../../nbd/server.js';
import type { Sink } from '../../progress.js';
import { invalid } from '../../refusals.js';
import type { ImageSource } from '../../source/types.js';
import type { Stage } from '../../stage.js';
import { createReadCache } from './read-cache.js';

/** More than any format can address, and a number that JavaScript and NBD can say. */
const ENDLESS_BYTES = 2 ** 52;

/** QEMU counts files in sectors of so many bytes, and waits for ever where an export ends inside one. */
const SECTOR = 512;

/** QEMU looks for a VMDK's descriptor in so much from the start, whatever the file has of it (`block/vmdk.c`, `vmdk_read_desc`). */
const OPENING_BYTES = 2 ** 20 - 1;

/** The image file, for reading, with zeros to the end of its last sector. What is asked for beyond is `ImageInvalid`. */
export function exportSource(
  source: ImageSource,
  { fileBytes, endless = false }: { fileBytes: number; endless?: boolean | undefined },
): NbdExport {
  const cache = createReadCache(source, fileBytes);
  const sectorEnd = Math.ceil(fileBytes / SECTOR) * SECTOR;
  return {
    size: endless ? ENDLESS_BYTES : sectorEnd,
    async read(offset, target) {
      const end = offset + target.length;
      const opening = offset === 0 && end <= OPENING_BYTES;
      if (end > sectorEnd && !opening)
        throw invalid(`image has data that ends at ${end}, the file ends at ${fileBytes}: it is cut short`);
      const within = target.subarray(0, Math.max(0, fileBytes - offset));
      target.fill(0, within.length);
      if (within.length > 0) await cache.read(offset, within);
    },
  };
}

/**
 * The disk, for writing from `start` on. Zeros that are announced need not be written: nothing was written there, and what is
 * not written reads as zeros.
 */
export function exportTarget(
  stage: Stage,
  sink: Pick<Sink, 'checkpoint'>,
  { start, virtualSize }: { start: number; virtualSize: number },
): NbdExport {
  let done = start;

  /** Everything below the last write counts as done: that is true only of a writer that never goes back. */
  function advance(offset: number, length: number): void {
    if (offset < done)
      throw transientFailure(
        'NodeUnavailable',
        `qemu-img writes at ${offset} after ${done}: it does not keep the order it was told to`,
      );
    done = offset + length;
  }
  return {
    size: virtualSize,
    async write(offset, data) {
      advance(offset, data.length);
      await stage.write(offset, data);
      await sink.checkpoint(done, () => stage.flush());
    },
    async zero(offset, length) {
      advance(offset, length);
      await sink.checkpoint(done, () => stage.flush());
    },
    flush: () => stage.flush(),
  };
}
