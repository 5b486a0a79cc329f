import { transientFailure } from '../../failures.js';
import { HEAD_BYTES } from '../source/streamed-source.js';
import type { ImageSource, SourceFacts } from '../source/types.js';
import { etagOf, keepHead, readHead, stateOf } from './upload-state.js';

/** The body of an upload, as the process that decodes is told of it. */
export interface UploadBody {
  readonly session: string;
  /** Offset of the first byte that comes. */
  readonly start: number;
  /** Length of the whole file, where its client has said it. */
  readonly length?: number;
  /** `algorithm:hex` of the whole file. */
  readonly checksum?: string;
  /** Keep the file in scratch space first. */
  readonly spool?: boolean;
}

/** How the body has ended: its connection alone does not tell an end from a break. */
export type BodyEnd = { readonly complete: true } | { readonly broken: string };

/** Where the bytes come from. */
export interface UploadStream {
  readonly bytes: AsyncIterable<Buffer>;
  /** Resolves when nothing more comes. */
  readonly end: Promise<BodyEnd>;
  /** Private directory of the transfer, as a path. */
  readonly directory: string;
}

/**
 * The file that a client sends, from `start` on. Read once, in order; it can be entered there only, and its beginning is known from
 * the attempt before. What breaks off, or is shorter than announced, is `SourceUnavailable`.
 */
export function createUploadSource(body: UploadBody, { bytes, end, directory }: UploadStream): ImageSource {
  const iterator = bytes[Symbol.asyncIterator]();
  const taken: Buffer[] = [];
  let probing: Promise<SourceFacts> | undefined;
  let streamed = false;
  let bytesRead = 0;

  async function next(): Promise<Buffer | undefined> {
    // a connection that is reset ends as any other: how it has ended is told apart from it
    const step = await iterator.next().catch(() => undefined);
    if (!step || step.done) return undefined;
    bytesRead += step.value.length;
    return step.value;
  }

  async function probe(): Promise<SourceFacts> {
    const { session, length } = body;
    const known = length === undefined ? {} : { length };
    const head = body.start > 0 ? await knownHead() : await beginning();
    if (body.start === 0) await keepHead(directory, head, stateOf(body));
    const validators = { etag: etagOf(session), ...known };
    return { displayUrl: 'upload', ranges: false, seekable: true, validators, head };
  }

  async function beginning(): Promise<Buffer> {
    for (let length = 0; length < HEAD_BYTES;) {
      const piece = await next();
      if (!piece) {
        await judgeEnd(length);
        break;
      }
      taken.push(piece);
      length += piece.length;
    }
    return Buffer.concat(taken).subarray(0, HEAD_BYTES);
  }

  async function knownHead(): Promise<Buffer> {
    return await readHead(directory).catch((error: unknown) => {
      throw startOver('its beginning is not known any more', error);
    });
  }

  async function* stream(from: number): AsyncGenerator<Buffer> {
    if (from < body.start || streamed)
      throw startOver(`what is received begins at ${body.start}, and offset ${from} is needed`);
    streamed = true;
    let at = body.start;
    for (let piece = taken.shift() ?? (await next()); piece; piece = taken.shift() ?? (await next())) {
      const skip = Math.min(piece.length, Math.max(0, from - at));
      at += piece.length;
      if (skip < piece.length) yield piece.subarray(skip);
    }
    await judgeEnd(at);
  }

  async function judgeEnd(at: number): Promise<void> {
    const how = await end;
    if ('broken' in how) throw transientFailure('SourceUnavailable', how.broken);
    if (body.length !== undefined && at !== body.length)
      throw transientFailure(
        'SourceUnavailable',
        `upload ended after ${at} of ${body.length} announced bytes`,
      );
  }

  return {
    async probe() {
      return await (probing ??= probe());
    },
    stream,
    readInto: () => Promise.reject(new Error('an upload has no ranges')),
    get bytesRead() {
      return bytesRead;
    },
    close: () => void iterator.return?.()?.catch(() => undefined),
  };
}

/** The session's next try begins at 0: nothing is durable that this one could go on from. */
function startOver(why: string, cause?: unknown): Error {
  return transientFailure('SourceUnavailable', `the upload has to be sent from its start: ${why}`, { cause });
}
