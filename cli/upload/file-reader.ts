/** A file as tus-js-client reads it: what the client leaves open when a request breaks off is closed here. */
import { Readable } from 'node:stream';
import type { UploadOptions } from 'tus-js-client';
import type { SourceFile } from './source-file.js';

/** The reader of one try. */
export interface TryReader {
  readonly fileReader: NonNullable<UploadOptions['fileReader']>;
  /** Ends what is read still; the file itself stays open. */
  close(): void;
}

/** Reads a file for one try; a part that cannot be read, or is another file's by now, is told to `failed`. */
export function createTryReader(
  { size, pieces }: Pick<SourceFile, 'size' | 'pieces'>,
  failed: (error: Error) => void,
): TryReader {
  const parts: Readable[] = [];

  function partOf(start: number, end: number): Readable & { readonly size: number } {
    const part = Readable.from(pieces(start, end), { objectMode: false });
    part.on('error', failed);
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
