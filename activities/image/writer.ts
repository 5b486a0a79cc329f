import { fdatasync, fsync, ftruncate, read, write } from 'node:fs';
import { promisify } from 'node:util';
import { noSpaceOr, orNoSpace } from './no-space.js';
import { zeroRange } from './target/zero-range.js';

/** O_DIRECT wants offsets, lengths and memory aligned to the device's blocks; a page serves every device in use. */
const PAGE = 4096;
/** Zeros are looked for in grains of this size. */
const GRAIN = 16 * 1024;
/** A gap of zeros smaller than this is written along: one large write beats two small ones (`performance.md` §11.6). */
const BRIDGE = 64 * 1024;
const ZEROS = Buffer.alloc(GRAIN);

const truncateFile = promisify(ftruncate);
const syncFile = promisify(fsync);
const syncData = promisify(fdatasync);

/** A stretch of memory, from its first byte to the one after the last. */
export type Hole = readonly [start: number, end: number];

/** An open target. The descriptors belong to whoever opened them. */
export interface TargetFile {
  /** Read and write, buffered. */
  readonly fd: number;
  /** The same file with O_DIRECT, where the file system has it. */
  readonly directFd?: number;
  /** The directory that holds it, synced at the end. */
  readonly directoryFd?: number;
  /** Size of a block device in bytes; absent for a file. */
  readonly deviceBytes?: number;
  /**
   * Tells this target from every other one, also from those that have its path later: a record is good for no other. Absent where
   * whoever has opened it proves that by other means, as a node worker does by its marker.
   */
  readonly identity?: string;
}

/**
 * Writes a disk sparsely: zeros are never written. What is not written of a file that was emptied reads as zeros already; of a
 * block device, whose old data must not shine through, it is zeroed.
 */
export interface SparseWriter {
  /** Writes what is not zero in `memory`, which lies page aligned and starts at `offset`, a multiple of a page. */
  write(offset: number, memory: Buffer): Promise<void>;
  /**
   * {@link write} where the target may hold anything: what is zero in `memory` reads as zeros afterwards. So do `holes`, in
   * ascending order and of whole grains, whatever is in memory there.
   */
  cover(offset: number, memory: Buffer, holes?: readonly Hole[]): Promise<void>;
  /** The range reads as zeros, where the target may hold anything. */
  zero(start: number, end: number): Promise<void>;
  /** Lets `work` write to the target's descriptor by itself; it says how many bytes it wrote. */
  fill(work: (fd: number) => Promise<number>): Promise<number>;
  /** Fills `memory` with what the target holds at `offset`; beyond its end with zeros. */
  read(offset: number, memory: Buffer): Promise<void>;
  /** Whether whole pages go past the page cache. */
  readonly direct: boolean;
  /** Bytes of data written so far. */
  readonly bytesWritten: number;
  /** Empties the target and gives it its size: a file becomes a hole, a device becomes zeros if that is not left to {@link cover}. */
  reset(bytes: number, covered: boolean): Promise<void>;
  /** Sets a file's size; what lies beyond is cut off. */
  truncate(bytes: number): Promise<void>;
  /** All finished writes are on stable storage. */
  syncData(): Promise<void>;
  /** File, size and directory entry are on stable storage. */
  syncAll(): Promise<void>;
}

/**
 * A writer on an open target. After `signal` no further write is issued, and after a failed sync none succeeds. `onZeroed` is told of
 * the bytes of a device that were made zero, which {@link SparseWriter.bytesWritten} leaves out and which may take hours.
 * @throws {@link FailureType} `NoSpace` where the file system is full, `NodeUnavailable` where the target fails or is gone
 */
export function createSparseWriter(
  target: TargetFile,
  signal: AbortSignal,
  onZeroed?: (bytes: number) => void,
): SparseWriter {
  const isDevice = target.deviceBytes !== undefined;
  let bytesWritten = 0;
  let directFd = target.directFd;
  let lost: { error: unknown } | undefined;

  async function put(fd: number, memory: Buffer, offset: number): Promise<number> {
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      write(fd, memory, 0, memory.length, offset, (error, count) =>
        error ? reject(noSpaceOr(error)) : resolve(count),
      );
    });
  }

  async function putAll(memory: Buffer, offset: number): Promise<void> {
    for (let at = 0; at < memory.length;) {
      const rest = memory.subarray(at);
      const direct = directFd !== undefined && (offset + at) % PAGE === 0 && rest.length >= PAGE;
      at += direct
        ? await putDirect(rest.subarray(0, rest.length - (rest.length % PAGE)), offset + at)
        : await put(target.fd, rest, offset + at);
    }
    bytesWritten += memory.length;
  }

  async function putDirect(memory: Buffer, offset: number): Promise<number> {
    try {
      return await put(directFd ?? target.fd, memory, offset);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
      directFd = undefined;
      return put(target.fd, memory, offset);
    }
  }

  async function writeSparse(offset: number, memory: Buffer, holes?: readonly Hole[]): Promise<void> {
    for (const [start, end] of dataRuns(memory, holes))
      await putAll(memory.subarray(start, end), offset + start);
  }

  async function zero(start: number, end: number): Promise<void> {
    if (!isDevice || end <= start) return;
    // it may sync, and so be told what an earlier write has lost
    await syncing(zeroRange(target.fd, [start, end], { signal, onZeroed }));
  }

  async function cover(offset: number, memory: Buffer, holes?: readonly Hole[]): Promise<void> {
    let at = 0;
    for (const [start, end] of dataRuns(memory, holes)) {
      await zero(offset + at, offset + start);
      await putAll(memory.subarray(start, end), offset + start);
      at = end;
    }
    await zero(offset + at, offset + memory.length);
  }

  async function fill(work: (fd: number) => Promise<number>): Promise<number> {
    signal.throwIfAborted();
    const count = await orNoSpace(work(target.fd));
    bytesWritten += count;
    return count;
  }

  async function truncate(bytes: number): Promise<void> {
    signal.throwIfAborted();
    if (!isDevice) await orNoSpace(truncateFile(target.fd, bytes));
  }

  async function reset(bytes: number, covered: boolean): Promise<void> {
    await truncate(0);
    await truncate(bytes);
    if (!covered) await zero(0, bytes);
  }

  async function readBack(offset: number, memory: Buffer): Promise<void> {
    for (let at = 0; at < memory.length;) {
      const count = await orNoSpace(readSome(target.fd, memory.subarray(at), offset + at), 'read');
      if (count === 0) return void memory.fill(0, at);
      at += count;
    }
  }

  /** A kernel tells once that it lost what was written, and says that all is well when it is asked again: here it stays lost. */
  async function sync(work: () => Promise<void>): Promise<void> {
    if (lost) throw lost.error;
    // blocks are often allocated no sooner than now
    await syncing(work());
  }

  async function syncing(work: Promise<void>): Promise<void> {
    try {
      await orNoSpace(work);
    } catch (error) {
      // a cancel in between loses nothing
      if (!signal.aborted) lost = { error };
      throw error;
    }
  }

  return {
    write: writeSparse,
    cover: isDevice ? cover : writeSparse,
    zero,
    fill,
    read: readBack,
    get direct() {
      return directFd !== undefined;
    },
    get bytesWritten() {
      return bytesWritten;
    },
    reset,
    truncate,
    syncData: () => sync(() => syncData(target.fd)),
    async syncAll() {
      const { fd, directoryFd } = target;
      await sync(() => syncFile(fd));
      if (directoryFd !== undefined) await sync(() => syncFile(directoryFd));
    },
  };
}

/** The whole grains of a stretch of zeros, which need not be in memory; `undefined` where there are too few to be a hole. */
export function holeIn(from: number, to: number): Hole | undefined {
  const start = Math.ceil(from / GRAIN) * GRAIN;
  const end = Math.floor(to / GRAIN) * GRAIN;
  return end - start >= BRIDGE ? [start, end] : undefined;
}

/** Runs of `memory` that hold data, at the grain of {@link GRAIN}, with small gaps of zeros bridged. `holes` are not looked at. */
export function* dataRuns(memory: Buffer, holes: readonly Hole[] = []): Generator<Hole> {
  let from = 0;
  for (const [start, end] of holes) {
    yield* runsBetween(memory, from, Math.min(start, memory.length));
    from = end;
  }
  yield* runsBetween(memory, from, memory.length);
}

function* runsBetween(memory: Buffer, from: number, to: number): Generator<Hole> {
  let start = -1;
  let end = -1;
  for (let at = from; at < to; at += GRAIN) {
    const grain = memory.subarray(at, Math.min(at + GRAIN, to));
    if (isZero(grain)) continue;
    if (start >= 0 && at - end >= BRIDGE) {
      yield [start, end];
      start = -1;
    }
    if (start < 0) start = at;
    end = at + grain.length;
  }
  if (start >= 0) yield [start, end];
}

/** Whether at most {@link GRAIN} bytes are all zero. */
export function isZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += GRAIN) {
    const length = Math.min(GRAIN, bytes.length - at);
    if (bytes[at] !== 0 || bytes.compare(ZEROS, 0, length, at, at + length) !== 0) return false;
  }
  return true;
}

function readSome(fd: number, memory: Buffer, offset: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(fd, memory, 0, memory.length, offset, (error, count) => (error ? reject(error) : resolve(count)));
  });
}
