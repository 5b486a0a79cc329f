/** Keeps an uploaded file as it is in scratch space, so that it can be received in pieces whatever is in it. */
import { constants } from 'node:fs';
import { open, readdir, rm, type FileHandle } from 'node:fs/promises';
import { permanentFailure, transientFailure } from '../../failures.js';
import { codeOf } from '../../node/directories.js';
import type { ScratchRoom } from '../scratch.js';
import { createFileSource } from '../source/file-source.js';
import type { ImageSource } from '../source/types.js';
import { readUploadState, stateOf, writeUploadState, type UploadState } from './upload-state.js';
import type { UploadBody } from './upload-source.js';

/** Synced, and told, after so many bytes or so much time. */
const EVERY_BYTES = 64 * 1024 * 1024;
const EVERY_MS = 2_000;
const PREFIX = 'upload-';

/** Where a file is spooled to. */
export interface SpoolOptions {
  readonly body: UploadBody;
  /** Directory of the scratch space. */
  readonly scratch: string;
  readonly room?: ScratchRoom | undefined;
  /** Private directory of the transfer. */
  readonly directory: string;
  readonly signal: AbortSignal;
  /** Told how many bytes of the file are kept. */
  readonly onProgress: (bytes: number) => void;
}

/** A whole file in scratch space. */
export interface Spooled extends AsyncDisposable {
  readonly source: ImageSource;
  readonly bytes: number;
}

/**
 * Receives the rest of a file into scratch space and opens it there. What is synced survives the process, and this very session goes
 * on behind it.
 * @throws {@link FailureType} `SourceUnavailable` where the body breaks off, `LargerPVCRequired` where the room is too small,
 * `ScratchUnavailable`
 */
export async function spoolUpload(source: ImageSource, options: SpoolOptions): Promise<Spooled> {
  const { body, scratch, directory, signal } = options;
  const file = await openFile(scratch, body.session);
  try {
    const state = await readUploadState(directory);
    const whole = state?.whole ? (state.spooled ?? 0) : undefined;
    await assertKept(whole ?? body.start, file, options);
    const bytes = whole ?? (await receive(source, file, options));
    // its time tells one version from another, so it is left alone where nothing changes
    if ((await file.stat()).size !== bytes) await file.truncate(bytes);
    const kept = createFileSource({ fd: file.fd, name: 'upload' }, { signal });
    return { source: kept, bytes, [Symbol.asyncDispose]: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Scratch space may have been emptied; what is missing of a file would be read as zeros. */
async function assertKept(
  bytes: number,
  file: FileHandle,
  { body, directory }: Pick<SpoolOptions, 'body' | 'directory'>,
): Promise<void> {
  if ((await file.stat()).size >= bytes) return;
  // or the next try would begin there again
  await writeUploadState(directory, stateOf(body));
  throw transientFailure(
    'SourceUnavailable',
    'the upload has to be sent from its start: what was kept of it is gone',
  );
}

async function receive(source: ImageSource, file: FileHandle, options: SpoolOptions): Promise<number> {
  const { body, directory, room, signal, onProgress } = options;
  const known = stateOf(body);
  const keeper = createKeeper(file, body.start, (spooled) =>
    writeUploadState(directory, { ...known, ...spooled }),
  );
  await keeper.keep();
  try {
    for await (const piece of source.stream(body.start)) {
      signal.throwIfAborted();
      assertRoom(keeper.at + piece.length, room);
      await inScratch(writeAll(file, piece, keeper.at));
      await keeper.wrote(piece.length);
      onProgress(keeper.at);
    }
    await keeper.keep({ whole: true });
    return keeper.at;
  } catch (error) {
    // whoever sends the rest, also after a cancel, need not send this again
    await keeper.keep().catch(() => undefined);
    throw error;
  } finally {
    keeper.stop();
  }
}

/** Makes durable what has been written of a file, and says so. */
interface Keeper {
  /** Offset behind what is written. */
  readonly at: number;
  /** So many bytes more are written. */
  wrote(bytes: number): Promise<void>;
  /** What is written is durable, and told. */
  keep(more?: { readonly whole: true }): Promise<void>;
  stop(): void;
}

/** Keeps after {@link EVERY_BYTES}, and after {@link EVERY_MS} also where the client pauses: it may come again on another connection. */
function createKeeper(
  file: FileHandle,
  start: number,
  tell: (spooled: Pick<UploadState, 'spooled' | 'whole'>) => Promise<void>,
): Keeper {
  let at = start;
  let kept = start;
  let last: Promise<void> = Promise.resolve();
  let failure: { readonly error: unknown } | undefined;

  async function keep(more: { readonly whole?: true } = {}): Promise<void> {
    last = last.then(async () => {
      const spooled = at;
      await inScratch(file.datasync());
      await tell({ spooled, ...more });
      kept = spooled;
    });
    await last;
  }

  const timer = setInterval(() => {
    if (at > kept && !failure) keep().catch((error: unknown) => (failure ??= { error }));
  }, EVERY_MS);
  return {
    get at() {
      return at;
    },
    async wrote(bytes) {
      at += bytes;
      if (failure) throw failure.error;
      if (at - kept >= EVERY_BYTES) await keep();
    },
    keep,
    stop: () => clearInterval(timer),
  };
}

async function writeAll(file: FileHandle, piece: Buffer, start: number): Promise<void> {
  for (let written = 0; written < piece.length;) {
    const { bytesWritten } = await file.write(piece, written, piece.length - written, start + written);
    written += bytesWritten;
  }
}

/** The file of this session; those of others are gone. */
async function openFile(scratch: string, session: string): Promise<FileHandle> {
  const name = `${PREFIX}${session}`;
  const { O_RDWR, O_CREAT, O_NOFOLLOW } = constants;
  return await inScratch(
    (async () => {
      for (const other of await readdir(scratch))
        if (other.startsWith(PREFIX) && other !== name) await rm(`${scratch}/${other}`, { force: true });
      return await open(`${scratch}/${name}`, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
    })(),
  );
}

/** The rest of the file system is promised to others. */
function assertRoom(bytes: number, room: ScratchRoom | undefined): void {
  if (!room || bytes <= room.bytes) return;
  throw permanentFailure(
    'LargerPVCRequired',
    `the file needs more than the ${room.bytes} bytes of scratch space that claim ${room.claimName} offers: ask for a larger ` +
      'volume, with which scratch space grows, or upload without dvflow.io/upload-spool',
  );
}

async function inScratch<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const code = String(codeOf(error));
    const full = code === 'ENOSPC' || code === 'EDQUOT';
    const message = full ? 'no space left in scratch space' : `scratch space cannot be used (${code})`;
    throw transientFailure('ScratchUnavailable', message, { cause: error });
  }
}
