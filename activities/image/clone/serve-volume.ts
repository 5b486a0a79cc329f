/** Answers requests for a volume that this node has open for one clone. */
import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { answerFailure } from '../../data-port/answers.js';
import { failureTypeOf } from '../../failures.js';
import { createBufferPool } from '../buffer-pool.js';
import type { ImageSource } from '../source/types.js';
import { createAnswers, type Answers } from './serve-answers.js';
import { budget, PIECE, sendPiece, tellFailure, TRAILERS } from './serve-body.js';
import {
  contentDigest,
  formatDigest,
  mapStretches,
  MAX_MAPPED,
  MAX_RANGE,
  parsePair,
} from './volume-protocol.js';

/** Most memory of one map, as it is found and as it is sent. */
const MAP_BYTES = 8 * PIECE;
const pool = createBufferPool(8 * PIECE);

/**
 * The source of each request; it proves on each read that the volume is what it was. With `flush`, for the first and the last request,
 * what others wrote and is in memory yet counts too.
 */
export type OpenSource = (signal: AbortSignal, flush: boolean) => ImageSource;

/** A handler of the data port's resource for a disk. */
export function createVolumeHandler(openSource: OpenSource): Answers {
  return createAnswers(async (request, response, signal) => {
    const source = openSource(signal, request.method === 'HEAD');
    try {
      await answer(request, response, { source, signal });
    } catch (error) {
      if (signal.aborted) return;
      // what is gone is gone, what is another one is told from what was never there
      const status = { SourceNotFound: 410, SourceChanged: 412 }[String(failureTypeOf(error))];
      tellFailure(response, error, status);
    } finally {
      source.close();
    }
  });
}

/** What an answer is made with. */
interface Served {
  readonly source: ImageSource;
  readonly signal: AbortSignal;
}

async function answer(request: IncomingMessage, response: ServerResponse, served: Served): Promise<void> {
  const { validators } = await served.source.probe();
  const { etag = '', length = 0 } = validators;
  const asked = request.headers['if-match'];
  if (asked !== undefined && asked !== etag)
    return answerFailure(
      response,
      { type: 'SourceChanged', message: 'the volume has changed', retryable: true },
      412,
    );
  if (request.method === 'HEAD') {
    response.writeHead(200, { 'content-length': length, 'accept-ranges': 'bytes', etag });
    return void response.end();
  }
  if (request.method !== 'GET') return refuse(response, 405, `method ${request.method}`);
  const query = new URLSearchParams(request.url?.split('?')[1] ?? '');
  const extents = query.get('extents');
  if (extents !== null) return await answerExtents(response, served, { extents, etag, length });
  const range = /^bytes=(.+)$/.exec(request.headers.range ?? '')?.[1];
  const pair = range === undefined ? undefined : parsePair(range);
  if (!pair || pair[1] >= length || pair[1] - pair[0] >= MAX_RANGE)
    return refuse(response, 416, `range ${range} of ${length} bytes, ${MAX_RANGE} at most`);
  await answerRange(response, served, { pair, headers: { 'content-range': rangeOf(pair, length), etag } });
}

function rangeOf([first, last]: readonly [number, number], length: number): string {
  return `bytes ${first}-${last}/${length}`;
}

/** A piece is read while the one before it is sent; a reader that is slow holds no more than these two. */
async function answerRange(
  response: ServerResponse,
  { source, signal }: Served,
  {
    pair: [first, last],
    headers,
  }: { readonly pair: readonly [number, number]; readonly headers: Record<string, string> },
): Promise<void> {
  const digest = createHash('sha256');
  let sending = Promise.resolve();
  try {
    for (let at = first; at <= last; at += PIECE) {
      const giveBack = await budget.take(PIECE, signal);
      const memory = pool.take(PIECE);
      const bytes = memory.subarray(0, Math.min(PIECE, last + 1 - at));
      try {
        await source.readInto(at, bytes);
        await sending;
      } catch (error) {
        giveBack();
        throw error;
      }
      digest.update(bytes);
      if (!response.headersSent)
        response.writeHead(206, {
          ...headers,
          'content-type': 'application/octet-stream',
          trailer: TRAILERS,
        });
      sending = sendPiece(response, bytes, signal)
        .then(() => pool.give(memory))
        .finally(giveBack);
      sending.catch(() => undefined);
    }
  } finally {
    await sending;
  }
  response.addTrailers({ 'content-digest': formatDigest(digest.digest('base64')) });
  response.end();
}

async function answerExtents(
  response: ServerResponse,
  { source, signal }: Served,
  { extents, etag, length }: { readonly extents: string; readonly etag: string; readonly length: number },
): Promise<void> {
  const [start, end] = parsePair(extents) ?? [0, 0];
  if (start >= end || end > length || end - start > MAX_MAPPED)
    return refuse(response, 416, `extents ${extents} of ${length} bytes, ${MAX_MAPPED} at most`);
  const giveBack = await budget.take(MAP_BYTES, signal);
  response.once('close', giveBack);
  const stretches = (await source.stretches?.(start, end)) ?? [{ start, end }];
  const body = Buffer.from(JSON.stringify(mapStretches(stretches, end)));
  response.writeHead(200, {
    'content-type': 'application/json',
    'content-length': body.length,
    'content-digest': contentDigest(body),
    etag,
  });
  await sendPiece(response, body, signal);
  response.end();
}

function refuse(response: ServerResponse, status: number, what: string): void {
  answerFailure(
    response,
    { type: 'SourceUnavailable', message: `not served: ${what}`, retryable: false },
    status,
  );
}
