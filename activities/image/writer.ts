import { fdatasync, fsync, ftruncate, read, write } from 'node:fs';
import { promisify } from 'node:util';
import { noSpaceOr, orNoSpace } from './no-space.js';

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

/** An open target. The descriptors belong to whoever opened them. */
export interface TargetFile {
  /** Read and write, buffered. */
  readonly fd: number;
  /** The same file with O_DIRECT, where the file system has it. */
  readonly directFd?: number;
  /** The directory that holds it, synced at the end. */
  readonly directoryFd?: number;
}

/** Writes a disk sparsely: zeros are never written, because everything not written reads as zeros already. */
export interface SparseWriter {
  /** Writes what is not zero in `memory`, which lies page aligned and starts at `offset`, a multiple of a page. */
  write(offset: number, memory: Buffer): Promise<void>;
  /** Fills `memory` with what the target holds at `offset`; beyond its end with zeros. */
  read(offset: number, memory: Buffer): Promise<void>;
  /** Bytes of data written so far. */
  readonly bytesWritten: number;
  /** Sets the file's size; what lies beyond is cut off. */
  truncate(bytes: number): Promise<void>;
  /** All finished writes are on stable storage. */
  syncData(): Promise<void>;
  /** File, size and directory entry are on stable storage. */
  syncAll(): Promise<void>;
}

/**
 * A writer on an open target. After `signal` no further write is issued.
 * @throws {@link FailureType} `NoSpace` where the file system is full
 */
export function createSparseWriter(target: TargetFile, signal: AbortSignal): SparseWriter {
  let bytesWritten = 0;
  let directFd = target.directFd;

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

  async function writeSparse(offset: number, memory: Buffer): Promise<void> {
    for (const [start, end] of dataRuns(memory)) await putAll(memory.subarray(start, end), offset + start);
  }

  async function readBack(offset: number, memory: Buffer): Promise<void> {
    for (let at = 0; at < memory.length;) {
      const count = await readSome(target.fd, memory.subarray(at), offset + at);
      if (count === 0) return void memory.fill(0, at);
      at += count;
    }
  }

  return {
    write: writeSparse,
    read: readBack,
    get bytesWritten() {
      return bytesWritten;
    },
    async truncate(bytes) {
      signal.throwIfAborted();
      await orNoSpace(truncateFile(target.fd, bytes));
    },
    // blocks are often allocated no sooner than now
    syncData: () => orNoSpace(syncData(target.fd)),
    async syncAll() {
      await orNoSpace(syncFile(target.fd));
      if (target.directoryFd !== undefined) await orNoSpace(syncFile(target.directoryFd));
    },
  };
}

/** Runs of `memory` that hold data, at the grain of {@link GRAIN}, with small gaps of zeros bridged. */
export function* dataRuns(memory: Buffer): Generator<readonly [start: number, end: number]> {
  let start = -1;
  let end = -1;
  for (let at = 0; at < memory.length; at += GRAIN) {
    const grain = memory.subarray(at, at + GRAIN);
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
