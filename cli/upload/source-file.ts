/** The file that `dvflow upload` sends: one version of it, however many tries lie between its first byte and its last. */
import type { BigIntStats } from 'node:fs';
import { open, stat, type FileHandle } from 'node:fs/promises';
import { CliError, EXIT } from '../errors.js';

/** An open file, as it was when it was opened. */
export interface SourceFile {
  readonly path: string;
  readonly size: number;
  /** Tells this version of the file from any other, to a later call of the command as well. */
  readonly version: string;
  /**
   * Its bytes from `start` to `end`, exclusive. The last piece of the file comes only when all of it has been of this version: whoever
   * sends a mixture never sends the end of it.
   * @throws CliError
   */
  pieces(start: number, end: number): AsyncGenerator<Buffer>;
  close(): Promise<void>;
}

/** Bytes that are read at once. */
const PIECE = 256 * 1024;

/**
 * Opens a regular file, by a symbolic link as well. Whatever is written to it from now on, or takes its place, ends what reads it.
 * @throws CliError where there is none, or nothing in it
 */
export async function openSourceFile(path: string): Promise<SourceFile> {
  // an open of a pipe would wait for its writer
  const named = await stat(path).catch((error: NodeJS.ErrnoException) => error);
  if (named instanceof Error) throw new CliError(`${path}: ${named.message}`, EXIT.usage, { cause: named });
  if (!named.isFile()) throw new CliError(`${path} is no regular file`, EXIT.usage);
  const file = await open(path).catch((error: unknown) => {
    throw cannotRead(path, error, EXIT.usage);
  });
  const found = await file.stat({ bigint: true });
  if (found.size > 0n) return sourceOf(path, file, found);
  await file.close();
  throw new CliError(`${path} is empty`, EXIT.usage);
}

function sourceOf(path: string, file: FileHandle, found: BigIntStats): SourceFile {
  const size = Number(found.size);
  const version = versionOf(found);

  /** Asked of the name, which may be another file's by now: the next call of the command would send that one. */
  async function requireSame(): Promise<void> {
    const now = await orUnreadable(path, stat(path, { bigint: true }));
    if (versionOf(now) !== version) throw changed(path);
  }

  async function pieceAt(at: number, length: number): Promise<Buffer> {
    const piece = Buffer.allocUnsafeSlow(length);
    for (let filled = 0; filled < length;) {
      const { bytesRead } = await orUnreadable(path, file.read(piece, filled, length - filled, at + filled));
      // it has been cut off
      if (bytesRead === 0) throw changed(path);
      filled += bytesRead;
    }
    return piece;
  }

  async function* pieces(start: number, end: number): AsyncGenerator<Buffer> {
    await requireSame();
    for (let at = start; at < end; at += PIECE) {
      const piece = await pieceAt(at, Math.min(PIECE, end - at));
      if (at + piece.length === size) await requireSame();
      yield piece;
    }
  }

  return { path, size, version, pieces, close: () => file.close() };
}

/**
 * The owner of a file can set the time of writing back, that of a change not. The number of the device says nothing of the file, and
 * may be another one after a restart of the machine.
 */
function versionOf({ ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [ino, size, mtimeNs, ctimeNs].join('-');
}

function changed(path: string): CliError {
  return new CliError(
    `${path} has changed while it was read: the same command begins anew with what it is now`,
    EXIT.transient,
  );
}

async function orUnreadable<T>(path: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw cannotRead(path, error, EXIT.permanent);
  }
}

function cannotRead(path: string, error: unknown, exitCode: number): CliError {
  return new CliError(`${path} cannot be read: ${(error as NodeJS.ErrnoException).code}`, exitCode, {
    cause: error,
  });
}
