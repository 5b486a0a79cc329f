import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { TLSSocket } from 'node:tls';
import type { Content } from './content.js';
import { sendBody, startServer } from './server.js';
import type { ListenOptions, SeenRequest, RunningServer } from './server.js';

/** How a content server answers one request; everything absent is as a good server does it. */
export interface Behaviour {
  /** @default `"v1"`; `''` for none */
  readonly etag?: string;
  readonly lastModified?: string;
  /** @default true; false: every request gets the whole content with 200 */
  readonly ranges?: boolean;
  /** @default true; false: HEAD gets 405 */
  readonly head?: boolean;
  /** Answer with this status and a page that must never be seen in a message. */
  readonly status?: number | undefined;
  readonly retryAfter?: string;
  /** Location header that goes with a `status` of 3xx. */
  readonly location?: string;
  /** The connection is reset after so many bytes of the body; the last of them may be lost on the way. */
  readonly dropAfter?: number;
  /** The connection is closed in order after so many bytes, all of which arrive: a body that is too short. */
  readonly truncateAfter?: number;
  /** Nothing more is sent after so many bytes of the body. */
  readonly stallAfter?: number;
  /** Of this connection; read anew for each piece of 64 KiB, so a getter may change it on the way. */
  readonly bytesPerSecond?: number | undefined;
  /** A 206 gives so many bytes at most, and says so. */
  readonly mostAtOnce?: number | undefined;
  /** No Content-Length. */
  readonly chunked?: boolean;
  readonly contentEncoding?: string;
  readonly contentType?: string;
  /** What is wrong with a 206: another range than asked, another total, several parts. */
  readonly distort?: 'other-range' | 'other-total' | 'no-total' | 'multipart';
  /** 401 without exactly these. */
  readonly basicAuth?: { readonly username: string; readonly password: string };
  /** 403 without exactly this header. */
  readonly requiredHeader?: readonly [name: string, value: string];
}

/** Text in the body of every error page: a message that holds it has leaked a body. */
export const PAGE = 'SECRET-BODY-OF-AN-ERROR-PAGE';

/**
 * Serves one content at every path. `behaviour` may depend on the number of the request (from 0) and on the request, for
 * servers that change on the way.
 */
export function startContentServer(
  content: Content | (() => Content),
  behaviour: Behaviour | ((index: number, request: SeenRequest) => Behaviour) = {},
  options: ListenOptions = {},
): Promise<RunningServer> {
  return startServer(async (request, response, seen, index) => {
    const now = typeof behaviour === 'function' ? behaviour(index, seen) : behaviour;
    const refusal = refusalOf(request, now);
    if (refusal === undefined) {
      await serve(request, response, seen, {
        behaviour: now,
        content: typeof content === 'function' ? content() : content,
      });
    } else {
      if (now.retryAfter !== undefined) response.setHeader('retry-after', now.retryAfter);
      if (now.location !== undefined) response.setHeader('location', now.location);
      response.writeHead(refusal, { 'content-type': 'text/html' }).end(PAGE);
    }
  }, options);
}

function refusalOf(request: IncomingMessage, behaviour: Behaviour): number | undefined {
  if (behaviour.status !== undefined) return behaviour.status;
  if (request.method === 'HEAD' && behaviour.head === false) return 405;
  const { basicAuth, requiredHeader } = behaviour;
  if (basicAuth) {
    const expected = Buffer.from(`${basicAuth.username}:${basicAuth.password}`).toString('base64');
    if (request.headers.authorization !== `Basic ${expected}`) return 401;
  }
  if (requiredHeader && request.headers[requiredHeader[0].toLowerCase()] !== requiredHeader[1]) return 403;
  return undefined;
}

interface Serving {
  readonly behaviour: Behaviour;
  readonly content: Content;
}

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  seen: SeenRequest,
  { behaviour, content }: Serving,
): Promise<void> {
  const { size } = content;
  setRepresentationHeaders(response, behaviour);
  const range = behaviour.ranges === false ? undefined : askedRange(request, response, size);
  if (range && range.start >= size) {
    response.writeHead(416, { 'content-range': `bytes */${size}` }).end();
    return;
  }
  const { start, end: last } = range ?? { start: 0, end: size };
  const end = range ? Math.min(last, start + (behaviour.mostAtOnce ?? size)) : last;
  if (behaviour.ranges !== false) response.setHeader('accept-ranges', 'bytes');
  if (!behaviour.chunked) response.setHeader('content-length', end - start);
  if (range) setRangeHeaders(response, { start, end, size }, behaviour);
  response.writeHead(range ? 206 : 200);
  if (request.method === 'HEAD') response.end();
  else await sendContent(response, seen, behaviour, content.read(start, end));
}

function setRepresentationHeaders(response: ServerResponse, behaviour: Behaviour): void {
  const { etag = '"v1"', lastModified, contentEncoding, contentType } = behaviour;
  if (etag !== '') response.setHeader('etag', etag);
  if (lastModified !== undefined) response.setHeader('last-modified', lastModified);
  if (contentEncoding !== undefined) response.setHeader('content-encoding', contentEncoding);
  response.setHeader('content-type', contentType ?? 'application/octet-stream');
}

/** The asked range, unless If-Range names another version. */
function askedRange(
  request: IncomingMessage,
  response: ServerResponse,
  size: number,
): { start: number; end: number } | undefined {
  const match = /^bytes=(\d+)-(\d*)$/u.exec(request.headers.range ?? '');
  const ifRange = request.headers['if-range'];
  if (!match || (ifRange !== undefined && ifRange !== response.getHeader('etag'))) return undefined;
  return { start: Number(match[1]), end: match[2] ? Math.min(Number(match[2]) + 1, size) : size };
}

function setRangeHeaders(
  response: ServerResponse,
  { start, end, size }: { start: number; end: number; size: number },
  { distort }: Behaviour,
): void {
  const shift = distort === 'other-range' ? 1 : 0;
  const total = distort === 'no-total' ? '*' : String(distort === 'other-total' ? size + 512 : size);
  if (distort === 'multipart') response.setHeader('content-type', 'multipart/byteranges; boundary=X');
  else response.setHeader('content-range', `bytes ${start + shift}-${end - 1 + shift}/${total}`);
}

async function sendContent(
  response: ServerResponse,
  seen: SeenRequest,
  behaviour: Behaviour,
  body: AsyncIterable<Buffer> | Iterable<Buffer>,
): Promise<void> {
  const { dropAfter, truncateAfter, stallAfter } = behaviour;
  const limit = dropAfter ?? truncateAfter ?? stallAfter;
  const counted = limit === undefined ? body : firstBytes(body, limit);
  await sendBody(paced(counted, behaviour), response, seen);
  if (limit === undefined) response.end();
  else if (seen.bytesSent < limit) response.end();
  else if (dropAfter !== undefined) flushed(response, () => resetConnection(response));
  else if (truncateAfter !== undefined) flushed(response, () => response.socket?.end());
}

/** Node cannot reset below TLS: such a connection is closed without its end being announced. */
function resetConnection({ socket }: ServerResponse): void {
  if (socket instanceof TLSSocket) socket.destroy();
  else socket?.resetAndDestroy();
}

/** What was written reaches the reader first: a reset throws away what the socket still holds. */
function flushed(response: ServerResponse, act: () => void): void {
  response.socket?.write('', () => setTimeout(act, 20));
}

async function* firstBytes(
  body: AsyncIterable<Buffer> | Iterable<Buffer>,
  limit: number,
): AsyncGenerator<Buffer> {
  let left = limit;
  for await (const chunk of body) {
    if (left <= 0) return;
    yield chunk.subarray(0, left);
    left -= chunk.length;
  }
}

async function* paced(
  body: AsyncIterable<Buffer> | Iterable<Buffer>,
  behaviour: Behaviour,
): AsyncGenerator<Buffer> {
  for await (const chunk of body) {
    yield chunk;
    const { bytesPerSecond } = behaviour;
    if (bytesPerSecond !== undefined) await sleep((chunk.length / bytesPerSecond) * 1000);
  }
}
