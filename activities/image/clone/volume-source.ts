/** A volume's disk on this node as a source: by ranges, with the extents that hold data, and for the kernel to copy. */
import { fstat, fsync } from 'node:fs';
import { promisify } from 'node:util';
import { permanentFailure, transientFailure } from '../../failures.js';
import { blockDeviceSize } from '../block-device.js';
import { createFileSource } from '../source/file-source.js';
import type { ImageSource, SourceOptions } from '../source/types.js';
import { createStateReader, fileState } from './state.js';
import type { VolumeRequest } from './volume-request.js';
import { copyRange, dataStretches, reflink } from './kernel.js';

const syncFile = promisify(fsync);
const statFile = promisify(fstat);

/** A disk that this process has open. */
export type LocalVolume = Pick<VolumeRequest, 'name' | 'generation'> & { readonly fd: number };

/** How a disk is read. */
export interface VolumeSourceOptions extends Pick<SourceOptions, 'signal'> {
  /** False: what others have written to a device and is still in memory is not looked at; a request of many does without. @default true */
  readonly flush?: boolean;
}

/**
 * The open disk of a volume as a source. What is read is one state of it: a disk that was written meanwhile is `SourceChanged`, one
 * that was removed `SourceNotFound`.
 */
export function createVolumeSource(
  { fd, name, generation }: LocalVolume,
  { signal, flush = true }: VolumeSourceOptions,
): ImageSource {
  let readState: (() => string) | undefined;
  let copied = 0;
  let beginning: Promise<string> | undefined;
  let opened: ImageSource | undefined;
  /** After a look that has been answered: it looks by itself, and the event loop waits for that. */
  const file = (): ImageSource => (opened ??= createFileSource({ fd, name }, { signal }));

  /** Off the event loop, since the disk may be on a file system that does not answer. */
  async function now(): Promise<string> {
    const found = await statFile(fd, { bigint: true });
    if (found.isBlockDevice()) return (readState ??= createStateReader(fd))();
    if (found.nlink === 0n)
      throw permanentFailure('SourceNotFound', `${name} was removed while it was cloned`);
    return fileState(found);
  }

  /** A write counts when the device gets it, and a pod that has ended may have left some in memory. */
  async function settled(): Promise<string> {
    if (flush && (await statFile(fd)).isBlockDevice()) await syncFile(fd);
    return await now();
  }
  const begin = (): Promise<string> => (beginning ??= settled());

  async function lengthOf(): Promise<number> {
    const found = await statFile(fd);
    return found.isBlockDevice() ? blockDeviceSize(fd) : found.size;
  }

  function assertSame(before: string, after: string): void {
    if (before === after) return;
    throw transientFailure('SourceChanged', `${name}: source changed: it was written to while it was cloned`);
  }

  return {
    probe: async () => ({
      displayUrl: name,
      ranges: true,
      seekable: true,
      validators: { etag: `"${await begin()}-${generation}"`, length: await lengthOf() },
      // nobody asks what a volume's disk looks like
      head: Buffer.alloc(0),
    }),
    async *stream(start) {
      await begin();
      yield* file().stream(start);
    },
    async readInto(start, target) {
      const before = await begin();
      await file().readInto(start, target);
      assertSame(before, await now());
    },
    stretches: (start, end) => dataStretches(fd, start, end),
    kernel: {
      reflink: (to) => reflink(fd, to),
      async copy(to, stretch) {
        const before = await begin();
        const count = await copyRange(fd, to, stretch);
        copied += count;
        assertSame(before, await now());
        return count;
      },
    },
    settle: async () => assertSame(await begin(), await settled()),
    get bytesRead() {
      return (opened?.bytesRead ?? 0) + copied;
    },
    close: () => opened?.close(),
  };
}
