import { constants } from 'node:fs';
import { open, unlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { failureTypeOf, permanentFailure, transientFailure } from '../failures.js';
import { codeOf } from '../node/directories.js';
import { createBreather } from './breathe.js';
import { createSegmentPool } from './pool.js';
import { hostile } from './refusals.js';
import { createFileSource } from './source/file-source.js';
import type { ImageSource } from './source/types.js';
import { createStage } from './stage.js';
import { createSparseWriter } from './writer.js';

const POOL = { segmentBytes: 4 * 1024 * 1024, count: 6 };
/** No file system that scratch space may lie on holds a larger file; a stream without end is found out by it at the latest. */
const MOST_BYTES = 2 ** 44;

/** What keeping a stream in scratch space takes. */
export interface ScratchOptions {
  readonly directory: string;
  readonly signal: AbortSignal;
  /** A longer stream is refused. @default 16 TiB */
  readonly mostBytes?: number;
  /** What may be written, holes not counted; absent: whatever the file system has. */
  readonly room?: ScratchRoom | undefined;
  /** Told how many bytes of the stream are kept. */
  readonly onProgress: (bytes: number) => void;
}

/** How much of a scratch directory one image may occupy. */
export interface ScratchRoom {
  readonly bytes: number;
  /** `namespace/name` of the claim, for messages. */
  readonly claimName: string;
}

/** A source that lies in scratch space, and how much of that it uses. */
export interface ScratchCopy extends AsyncDisposable {
  readonly source: ImageSource;
  /** Length of the file, holes included. */
  readonly bytes: number;
  /** Bytes that were written. */
  readonly scratchBytes: number;
}

/**
 * Keeps a whole stream in a file of the scratch directory that has no name: it goes with the process, however that ends.
 * @throws {@link FailureType} `ScratchUnavailable` where the directory cannot be used or is full, `LargerPVCRequired` where the
 * room is too small, `ImageHostile` for a stream without end, and what the source throws
 */
export async function keepInScratch(source: ImageSource, options: ScratchOptions): Promise<ScratchCopy> {
  const { directory, signal, onProgress, room, mostBytes = MOST_BYTES } = options;
  const file = await openNameless(directory);
  try {
    const writer = createSparseWriter({ fd: file.fd }, signal);
    const stage = createStage(createSegmentPool(POOL), writer, { diskBytes: Infinity, existing: false });
    const breathe = createBreather();
    let bytes = 0;
    try {
      for await (const chunk of source.stream(0)) {
        signal.throwIfAborted();
        await inScratch(stage.write(bytes, chunk));
        bytes += chunk.length;
        if (bytes > mostBytes) throw hostile(`image expands beyond ${mostBytes} bytes in scratch space`);
        assertRoom(writer.bytesWritten, room);
        onProgress(bytes);
        await breathe();
      }
      await inScratch(stage.flush());
      assertRoom(writer.bytesWritten, room);
    } finally {
      await stage.close();
    }
    await inScratch(writer.truncate(bytes));
    const { bytesWritten } = writer;
    const kept = createFileSource({ fd: file.fd, name: 'scratch file' }, { signal });
    return {
      source: kept,
      bytes,
      scratchBytes: bytesWritten,
      [Symbol.asyncDispose]: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** The rest of the file system is promised to others. */
function assertRoom(bytesWritten: number, room: ScratchRoom | undefined): void {
  if (!room || bytesWritten <= room.bytes) return;
  throw permanentFailure(
    'LargerPVCRequired',
    `image needs more than the ${room.bytes} bytes of scratch space that claim ${room.claimName} offers: ask for a larger volume, ` +
      'with which scratch space grows, or serve the image so that it can be streamed',
  );
}

/** What goes wrong with the copy is scratch space's, not the target's. */
async function inScratch<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const type = failureTypeOf(error);
    if (type === undefined) throw error;
    const full = type === 'NoSpace';
    const code = String(codeOf((error as Error).cause));
    const message = full ? 'no space left in scratch space' : `scratch space cannot be used (${code})`;
    throw transientFailure('ScratchUnavailable', message, { cause: error });
  }
}

/** `open(2)`; Node has no name for this bit, which is the same on all machines that it runs on. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;

/** A file that never has a name, so that nobody is killed between making and unlinking it; where a file system has none, nearly so. */
async function openNameless(directory: string): Promise<FileHandle> {
  const { O_RDWR, O_EXCL } = constants;
  const file = await open(directory, O_TMPFILE | O_RDWR | O_EXCL, 0o600).catch(() => undefined);
  return file ?? (await openUnlinked(directory));
}

async function openUnlinked(directory: string): Promise<FileHandle> {
  const path = join(directory, `.dvflow-scratch-${crypto.randomUUID()}`);
  const { O_RDWR, O_CREAT, O_EXCL } = constants;
  try {
    const file = await open(path, O_RDWR | O_CREAT | O_EXCL, 0o600);
    await unlink(path);
    return file;
  } catch (error) {
    const code = String(codeOf(error));
    if (code === 'ENOSPC')
      throw transientFailure('ScratchUnavailable', 'no space left in scratch space', { cause: error });
    throw permanentFailure('ScratchSpaceRequired', `scratch space cannot be used (${code})`, error);
  }
}
