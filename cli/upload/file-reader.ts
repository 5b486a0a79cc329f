/** A file as tus-js-client reads it: what the client leaves open when a request breaks off is closed here. */
import { createReadStream, type ReadStream } from 'node:fs';
import type { UploadOptions } from 'tus-js-client';
import { CliError, EXIT } from '../errors.js';

/** The reader of one try. */
export interface TryReader {
  readonly fileReader: NonNullable<UploadOptions['fileReader']>;
  /** Closes what is open still. */
  close(): void;
}

/** Reads a file of so many bytes; a part that cannot be read, as of a file that has vanished, is told to `failed`. */
export function createTryReader(
  { file, size }: { readonly file: string; readonly size: number },
  failed: (error: CliError) => void,
): TryReader {
  const parts: ReadStream[] = [];

  function partOf(start: number, end: number): ReadStream & { readonly size: number } {
    const part = createReadStream(file, { start, end: end - 1 });
    part.on('error', (error: NodeJS.ErrnoException) =>
      failed(new CliError(`${file} cannot be read: ${error.code}`, EXIT.permanent, { cause: error })),
    );
    parts.push(part);
    // the HTTP stack takes the length of a body from it
    return Object.assign(part, { size: end - start });
  }

  function close(): void {
    for (const part of parts) part.destroy();
  }

  const slice = async (start: number, end: number) => ({ value: partOf(start, end), done: end === size });
  return { fileReader: { openFile: async () => ({ size, slice, close }) }, close };
}
