/** Answers requests for a volume that this node has open for one clone. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { answerFailure, describeFailure } from '../../data-port/answers.js';
import { failureTypeOf } from '../../failures.js';
import type { ImageSource } from '../source/types.js';
import { contentDigest, mapStretches, MAX_MAPPED, MAX_RANGE, parsePair } from './volume-protocol.js';

/** The source of each request; it proves on each read that the volume is what it was. */
export type OpenSource = (signal: AbortSignal) => ImageSource;

/** A handler of the data port's resource `/volume/<uid>`, for a disk. */
export function createVolumeHandler(
  openSource: OpenSource,
): (request: IncomingMessage, response: ServerResponse) => Promise<void> {
  return async (request, response) => {
    const stopping = new AbortController();
    response.once('close', () => stopping.abort());
    const source = openSource(stopping.signal);
    try {
      await answer(request, response, source);
    } catch (error) {
      if (stopping.signal.aborted) return;
      // what is gone is gone, what is another one is told from what was never there
      const status = { SourceNotFound: 410, SourceChanged: 412 }[String(failureTypeOf(error))];
      answerFailure(response, describeFailure(error), status);
    } finally {
      source.close();
    }
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  source: ImageSource,
): Promise<void> {
  const { validators } = await source.probe();
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
  if (extents !== null) return await answerExtents(response, source, { extents, etag, length });
  const range = /^bytes=(.+)$/.exec(request.headers.range ?? '')?.[1];
  const pair = range === undefined ? undefined : parsePair(range);
  if (!pair || pair[1] >= length || pair[1] - pair[0] >= MAX_RANGE)
    return refuse(response, 416, `range ${range} of ${length} bytes, ${MAX_RANGE} at most`);
  const [first, last] = pair;
  const bytes = Buffer.allocUnsafeSlow(last - first + 1);
  await source.readInto(first, bytes);
  response.writeHead(206, {
    'content-type': 'application/octet-stream',
    'content-range': `bytes ${first}-${last}/${length}`,
    ...lengthAndDigest(bytes),
    etag,
  });
  response.end(bytes);
}

async function answerExtents(
  response: ServerResponse,
  source: ImageSource,
  { extents, etag, length }: { readonly extents: string; readonly etag: string; readonly length: number },
): Promise<void> {
  const [start, end] = parsePair(extents) ?? [0, 0];
  if (start >= end || end > length || end - start > MAX_MAPPED)
    return refuse(response, 416, `extents ${extents} of ${length} bytes, ${MAX_MAPPED} at most`);
  const stretches = (await source.stretches?.(start, end)) ?? [{ start, end }];
  const body = Buffer.from(JSON.stringify(mapStretches(stretches, end)));
  response.writeHead(200, { 'content-type': 'application/json', ...lengthAndDigest(body), etag });
  response.end(body);
}

function lengthAndDigest(body: Buffer): Record<string, string | number> {
  return { 'content-length': body.length, 'content-digest': contentDigest(body) };
}

function refuse(response: ServerResponse, status: number, what: string): void {
  answerFailure(
    response,
    { type: 'SourceUnavailable', message: `not served: ${what}`, retryable: false },
    status,
  );
}
