/** The part `file` of a `multipart/form-data` body, as a stream (`cdi.md` §3.4). */
import type { IncomingMessage } from 'node:http';
import type { Readable, Writable } from 'node:stream';
import { Busboy, type BusboyFileStream } from '@fastify/busboy';
import { freePiece } from '../../activities/data-port/free-piece.js';
import { STALL_MS } from './body-pump.js';
import { UploadError } from './upload-failures.js';

/** Name of the part; CDI's. */
const PART = 'file';

/** A form for an upload has one part; what is beyond these limits is not looked at. */
const LIMITS = { fields: 16, fieldSize: 64 * 1024, parts: 32, headerPairs: 64 } as const;

/** What may come before the file, in bytes: as much as the parts that are allowed there. */
const PREAMBLE_BYTES = LIMITS.fields * LIMITS.fieldSize + 64 * 1024;

/** The file of a form. */
export interface FormFile {
  readonly source: Readable;
  /** Whether the file, which has ended, has ended by its boundary. */
  isWhole(): boolean;
  /** To be told each piece of the file that has been written: gives back the memory of the form's pieces that it shows to be over. */
  readonly onWritten: (piece: Buffer) => void;
}

/** How long a form's file is waited for. */
export interface FormWait {
  /** Time in which nothing comes, in ms. @default 60_000 */
  readonly stallMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * Reads a form up to its file. Parts before and after it are passed over.
 * @throws UploadError 400 for a body that is no form, has no part `file` or none within a mebibyte, or breaks off before it; 408 for
 * one of which nothing comes for so long; the reason of `signal` once it is aborted
 */
export async function readFormFile(
  request: IncomingMessage,
  contentType: string | undefined,
  wait: FormWait = {},
): Promise<FormFile> {
  const parser = parserFor(request, contentType ?? '');
  const { promise, resolve, reject } = Promise.withResolvers<FormFile>();
  let whole = true;
  let file: Readable | undefined;
  const fail = (reason: string): void => {
    whole = false;
    // an error of the parser wins over the end that it lets the file have
    reject(new UploadError(400, `Saving stream failed: ${reason}`));
    file?.destroy(new Error(reason));
  };
  parser.on('file', (name: string, stream: BusboyFileStream) => {
    if (name !== PART || file) return stream.resume();
    file = stream;
    // an error after the last byte was handed over is nobody's
    stream.on('error', () => undefined);
    resolve({ source: stream, isWhole: () => whole, onWritten: freeFormPieces(request, stream, parser) });
  });
  parser.on('error', () => fail('the form is malformed or has broken off'));
  parser.on('finish', () => reject(new UploadError(400, `the form has no part named ${PART}`)));
  request.on('close', () => {
    if (!request.complete) fail("the client's connection has broken");
  });
  request.pipe(parser);
  const unwatch = watchPreamble(request, wait, reject);
  return await promise.finally(() => unwatch());
}

/**
 * Pieces of the file lie in the memory of the form's, or in the parser's own, and are written in their order: once one of them is
 * written, nobody needs the pieces of the form before the one that it lies in.
 */
function freeFormPieces(form: Readable, file: Readable, parser: Writable): FormFile['onWritten'] {
  const pending: Buffer[] = [];
  const add = (piece: Buffer): void => void pending.push(piece);
  const stop = (): void => void form.off('data', add);
  form.prependListener('data', add);
  // what follows the file is passed over, and what comes after a refusal read away, however much it is
  file.once('end', stop).once('close', stop);
  parser.once('unpipe', stop);
  return ({ buffer }) => {
    const at = pending.findIndex((piece) => piece.buffer === buffer);
    if (at > 0) for (const piece of pending.splice(0, at)) freePiece(piece);
  };
}

/** Until the file begins nobody else looks after the request. */
function watchPreamble(
  request: IncomingMessage,
  { stallMs = STALL_MS, signal }: FormWait,
  refuse: (error: unknown) => void,
): () => void {
  let bytes = 0;
  const stop = (error: unknown): void => {
    request.unpipe();
    request.pause();
    refuse(error);
  };
  const stall = setTimeout(
    () => stop(new UploadError(408, `the client has sent nothing for ${stallMs / 1000} s`)),
    stallMs,
  );
  const count = (piece: Buffer): void => {
    stall.refresh();
    bytes += piece.length;
    if (bytes > PREAMBLE_BYTES)
      stop(new UploadError(400, `the form has no part named ${PART} within ${PREAMBLE_BYTES} bytes`));
  };
  request.on('data', count);
  const abort = (): void => stop(signal?.reason);
  signal?.addEventListener('abort', abort);
  return () => {
    clearTimeout(stall);
    signal?.removeEventListener('abort', abort);
    request.off('data', count);
  };
}

function parserFor({ headers }: IncomingMessage, contentType: string): InstanceType<typeof Busboy> {
  try {
    if (!/^multipart\/form-data\b/i.test(contentType)) throw new Error('not a form');
    return new Busboy({
      headers: { ...headers, 'content-type': contentType },
      limits: LIMITS,
      // whether or not it has a file name
      isPartAFile: (name) => name === PART,
    });
  } catch (error) {
    throw new UploadError(400, 'the body is no multipart/form-data with a boundary', { cause: error });
  }
}
