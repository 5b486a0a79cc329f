import type { ClientRequest, IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { RequestOptions } from 'node:https';
import { addAbortSignal, type Readable } from 'node:stream';
import type { ApplicationFailure } from '../../failures.js';
import { lengthFailure, MAX_HEADER_BYTES, networkFailure, unavailable } from './http-failures.js';
import { http, https } from './node-http.js';
import type { Session } from './session.js';
import type { Entrance, RedirectTarget } from './types.js';

/** Errors of servers are shorter than this. */
const BEGINNING_BYTES = 64 * 1024;

/** The head of an answer, and its body not yet read. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Where redirects led to, without user info; absent where the source's own address answered. */
  readonly target?: URL;
  readonly redirected?: RedirectTarget;
  readonly body: Readable;
}

/** Where one request goes. */
export interface Place extends Entrance {
  /** Redirects led there: failures say so. */
  readonly isTarget?: boolean;
}

/**
 * One request to one address by node:http(s), without redirects; a fast reader of raw sockets can take its place.
 *
 * @throws `SourceUnavailable`, `SourceCertificateInvalid`, `SourceNotAllowed`, `UnsupportedFormat` for a Content-Length that cannot
 * be read, or the signal's reason.
 */
export async function requestOnce(session: Session, place: Place): Promise<Answer> {
  const { url, headers: own, isTarget } = place;
  const failed = (error: unknown): ApplicationFailure =>
    networkFailure(error, session.display, isTarget ? url : undefined);
  const first = startRequest(session, url, own);
  let before: unknown;
  try {
    return await answerOf(session, first);
  } catch (error) {
    session.signal.throwIfAborted();
    if (!isWorthRepeating(session, first, error)) throw failed(error);
    before = error;
  }
  const second = startRequest(session, url, own);
  try {
    return await answerOf(session, second);
  } catch (error) {
    session.signal.throwIfAborted();
    throw lengthFailure([before, error], failed(error)) ?? failed(error);
  }
}

function startRequest(session: Session, url: URL, own: Readonly<Record<string, string>>): ClientRequest {
  const agent = session.agents.for(url);
  return requestTo(session, url, {
    headers: session.headers.for(url, own),
    agent: url.protocol === 'https:' ? agent.https : agent.http,
  });
}

/** A request that is not sent yet, whose answer is read as strictly as the session reads by now. */
export function requestTo(session: Session, url: URL, options: RequestOptions): ClientRequest {
  const { request } = url.protocol === 'https:' ? https() : http;
  return request(url, {
    ...options,
    insecureHTTPParser: session.tolerance.lenient,
    maxHeaderSize: MAX_HEADER_BYTES,
  });
}

/**
 * Whether a request that has failed is to be sent once more, at once: what went wrong says nothing about the source. From a server
 * that breaks the rules of HTTP on, the session reads leniently.
 */
export function isWorthRepeating(session: Session, request: ClientRequest, error: unknown): boolean {
  if (!breaksRules(session, error)) return lostIdleSocket(request, error);
  session.tolerance.lenient = true;
  return true;
}

/**
 * Folded headers, lines that end by LF alone, chunks with a length beside them: other clients read what such servers send. They
 * are read on connections where nothing else than this source's bytes is asked for, and only after a strict try.
 */
function breaksRules({ tolerance, notice }: Session, error: unknown): boolean {
  const { code = '' } = error as NodeJS.ErrnoException;
  if (tolerance.lenient || !code.startsWith('HPE_') || code === 'HPE_HEADER_OVERFLOW') return false;
  notice(`server breaks the rules of HTTP (${code}): reading it leniently`);
  return true;
}

async function answerOf(session: Session, request: ClientRequest): Promise<Answer> {
  const response = await awaitHead<IncomingMessage>(session, request, (resolve) => {
    request.once('response', resolve);
    request.end();
  });
  endAsRequest(request, response);
  return { status: response.statusCode ?? 0, headers: response.headers, body: response };
}

/**
 * Lets a body fail where its connection does. A body without a length ends with its connection, and node:http takes a reset for
 * that end: the response ends well, cut short, and the error is the request's alone.
 */
export function endAsRequest(
  request: ClientRequest,
  response: IncomingMessage,
  body: Readable = response,
): void {
  request.on('error', (error) => {
    if (!response.complete) body.destroy(error);
  });
}

/** The server closed a kept-alive connection at the moment we used it: that says nothing about the source. */
function lostIdleSocket(request: ClientRequest, error: unknown): boolean {
  return (
    request.reusedSocket && ['ECONNRESET', 'EPIPE'].includes((error as NodeJS.ErrnoException).code ?? '')
  );
}

/** A request under way: node:http's, or got's stream. */
interface Pending {
  on(event: 'error', listener: (error: Error) => void): unknown;
  destroy(error?: Error): unknown;
}

/**
 * Waits for the head of an answer, for `stallMs` in all: a server that trickles headers for ever is as bad as one that says
 * nothing. On abort and stall the request is destroyed; its later errors belong to the body.
 */
export async function awaitHead<T>(
  session: Session,
  pending: Pending,
  start: (resolve: (value: T) => void) => void,
): Promise<T> {
  const { signal, display, stallMs } = session;
  return new Promise<T>((resolve, reject) => {
    const settle = (act: () => void): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      act();
    };
    const fail = (error: Error): void => {
      settle(() => reject(error));
      pending.destroy();
    };
    const onAbort = (): void => fail(signal.reason as Error);
    const timer = setTimeout(() => fail(unavailable(display, `no answer for ${stallMs} ms`)), stallMs);
    pending.on('error', (error) => settle(() => reject(error)));
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) return onAbort();
    start((value) => settle(() => resolve(value)));
  });
}

/** The beginning of an answer whose rest nobody wants; as much of it as comes in time. */
export async function beginningOf({ body }: Answer, { signal, stallMs }: Session): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  addAbortSignal(AbortSignal.any([signal, AbortSignal.timeout(stallMs)]), body);
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      length += chunk.length;
      if (length >= BEGINNING_BYTES) break;
    }
  } catch {
    // what has come will do
  }
  return Buffer.concat(chunks).toString('utf8', 0, BEGINNING_BYTES);
}

/** Gives up an answer whose body nobody wants; its connection ends. */
export function discard({ body }: Answer): void {
  // what goes wrong with it from here on is nobody's concern
  body.on('error', () => undefined).destroy();
}
