/** A volume's disk on this node as a source: by ranges, with the extents that hold data, and for the kernel to copy. */
import { fstatSync, type BigIntStats } from 'node:fs';
import { permanentFailure, transientFailure } from '../../failures.js';
import { blockDeviceSize } from '../block-device.js';
import { createFileSource } from '../source/file-source.js';
import type { ImageSource, SourceOptions } from '../source/types.js';
import type { VolumeRequest } from './volume-request.js';
import { copyRange, dataStretches, reflink } from './kernel.js';

/** A disk that this process has open. */
export type LocalVolume = Pick<VolumeRequest, 'name' | 'generation'> & { readonly fd: number };

/**
 * The open disk of a volume as a source. What is read is one state of it: a disk that was written meanwhile is `SourceChanged`, one
 * that was removed `SourceNotFound`.
 */
export function createVolumeSource(
  { fd, name, generation }: LocalVolume,
  { signal }: Pick<SourceOptions, 'signal'>,
): ImageSource {
  const file = createFileSource({ fd, name }, { signal });
  const before = fstatSync(fd, { bigint: true });
  const length = before.isBlockDevice() ? blockDeviceSize(fd) : Number(before.size);
  let copied = 0;

  function assertUnchanged(): void {
    const now = fstatSync(fd, { bigint: true });
    if (now.isFile() && now.nlink === 0n)
      throw permanentFailure('SourceNotFound', `${name} was removed while it was cloned`);
    if (isSame(before, now)) return;
    throw transientFailure('SourceChanged', `${name}: source changed: it was written to while it was cloned`);
  }

  return {
    probe: async () => ({
      displayUrl: name,
      ranges: true,
      seekable: true,
      validators: { etag: `"${etagOf(before)}-${generation}"`, length },
      // nobody asks what a volume's disk looks like
      head: Buffer.alloc(0),
    }),
    stream: (start) => file.stream(start),
    async readInto(start, target) {
      await file.readInto(start, target);
      assertUnchanged();
    },
    stretches: async (start, end) => dataStretches(fd, start, end),
    kernel: {
      reflink: (to) => reflink(fd, to),
      async copy(to, stretch) {
        const count = await copyRange(fd, to, stretch);
        copied += count;
        assertUnchanged();
        return count;
      },
    },
    settle: async () => assertUnchanged(),
    get bytesRead() {
      return file.bytesRead + copied;
    },
    close: () => file.close(),
  };
}

function isSame(one: BigIntStats, other: BigIntStats): boolean {
  return one.ino === other.ino && one.size === other.size && one.mtimeNs === other.mtimeNs;
}

/** Tells one state of a disk from another. */
export function etagOf({ dev, ino, mtimeNs, size }: BigIntStats): string {
  return `${dev}-${ino}-${size}-${mtimeNs}`;
}
