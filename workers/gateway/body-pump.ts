/** Moves the body of one request into another, at the pace of the slower of the two. */
import { IncomingMessage } from 'node:http';
import type { Readable, Writable } from 'node:stream';
import { freePiece } from '../../activities/data-port/free-piece.js';
import { UploadError } from './upload-failures.js';

/** A client that sends nothing for so long is given up, in ms; as in the engine's own sources. */
export const STALL_MS = 60_000;

/** Limits of one body. */
export interface PumpOptions {
  /** Bytes that are taken; one more ends the upload. */
  readonly limitBytes: number;
  /** What the limit is, for the message: `claim team-a/vm1 asks for 1073741824 bytes`. */
  readonly limitReason: string;
  /** @default 60_000 */
  readonly stallMs?: number;
  readonly onBytes?: (bytes: number) => void;
  /** Whether the source, which has ended, has ended as a whole; a broken connection may look like an end. */
  readonly isWhole?: () => boolean;
  /** Told each piece that has been written. @default gives its memory back: nobody else has it */
  readonly onWritten?: (piece: Buffer) => void;
}

/** A body on its way. */
export interface Pump {
  /** Bytes moved so far. */
  readonly bytes: number;
  /** Resolves when the whole body has been handed over and the sink was ended. @throws UploadError */
  readonly done: Promise<void>;
  /** Takes no more of the source, and leaves it as it is; `done` resolves. */
  stop(): void;
}

/**
 * Starts to move. A source that breaks, stalls or exceeds the limit destroys the sink, so that the other side sees that the body is
 * not whole; the source itself is left alone, since its connection still carries the answer.
 */
export function pumpBody(source: Readable, sink: Writable, options: PumpOptions): Pump {
  const { limitBytes, limitReason, stallMs = STALL_MS, onBytes, onWritten = freePiece } = options;
  const isWhole = options.isWhole ?? (() => !(source instanceof IncomingMessage) || source.complete);
  const { promise: done, resolve, reject } = Promise.withResolvers<void>();
  let bytes = 0;
  let over = false;
  const stall = setTimeout(() => {
    // the slowness may be the other side's
    if (sink.writableNeedDrain) stall.refresh();
    else fail(new UploadError(408, `the client has sent nothing for ${stallMs / 1000} s`));
  }, stallMs);

  const finish = (): boolean => {
    if (over) return false;
    over = true;
    clearTimeout(stall);
    source.off('data', take).off('end', end).off('error', broken).off('close', closed);
    sink.off('drain', resume);
    return true;
  };
  const fail = (error: UploadError): void => {
    if (!finish()) return;
    source.pause();
    sink.destroy();
    reject(error);
  };
  const broken = (): void =>
    fail(new UploadError(400, `the client's connection has broken after ${bytes} bytes of the body`));
  const take = (chunk: Buffer): void => {
    bytes += chunk.length;
    if (bytes > limitBytes)
      return fail(new UploadError(400, `the upload is larger than allowed: ${limitReason}`));
    onBytes?.(chunk.length);
    stall.refresh();
    if (!sink.write(chunk, () => onWritten(chunk))) source.pause();
  };
  const resume = (): void => {
    stall.refresh();
    source.resume();
  };
  const end = (): void => {
    if (!isWhole()) return broken();
    if (!finish()) return;
    sink.end();
    resolve();
  };
  // `close` without `end`: the connection is gone
  const closed = (): void => (source.readableEnded ? end() : broken());

  if (source.destroyed && !source.readableEnded) queueMicrotask(broken);
  else source.on('data', take).on('end', end).on('error', broken).on('close', closed);
  sink.on('drain', resume);
  return {
    get bytes() {
      return bytes;
    },
    done,
    stop: () => {
      if (!finish()) return;
      source.pause();
      resolve();
    },
  };
}
