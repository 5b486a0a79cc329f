/** How requests with large bodies are treated: when they may send, how they are answered, what becomes of the rest. */
import { once } from 'node:events';
import { IncomingMessage, type ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { UploadError, type UploadAnswer } from './upload-failures.js';

/** Lets a client that asked (`Expect: 100-continue`) send its body; where nobody asked, nothing is sent. */
export function expectsContinue(request: IncomingMessage): void {
  const ask = continues.get(request);
  continues.delete(request);
  ask?.writeContinue();
}

/** Requests that wait to be told that they may send. */
const continues = new WeakMap<IncomingMessage, ServerResponse>();

/** Remembers a request that waits; Node would let it send at once, and a refusal would come after gigabytes. */
export function awaitsContinue(request: IncomingMessage, response: ServerResponse): void {
  continues.set(request, response);
}

/** Whether a client still waits to be told that it may send. */
export function isUntold(request: IncomingMessage): boolean {
  return continues.has(request);
}

/** Aborts when the client is gone before its body has come as a whole. */
export function goneSignal(request: IncomingMessage): AbortSignal {
  const gone = new AbortController();
  request.once('close', () => {
    if (!request.complete) gone.abort(new UploadError(400, "the client's connection has broken"));
  });
  return gone.signal;
}

/**
 * Resolves when the first byte is there to be read; nothing of the body is taken.
 * @throws UploadError when nothing comes in time, or there is nothing; the reason of `signal` once it is aborted
 */
export async function awaitFirstByte(
  source: Readable,
  withinMs: number,
  signal?: AbortSignal,
): Promise<void> {
  signal?.throwIfAborted();
  if (source.readableLength > 0) return;
  const late = new AbortController();
  try {
    const outcome = await Promise.race([
      once(source, 'readable', { signal: late.signal }).then(() => 'readable' as const),
      once(source, 'close', { signal: late.signal }).then(() => 'closed' as const),
      pause(withinMs, 'late' as const, { signal: late.signal }),
      ...(signal ? [once(signal, 'abort', { signal: late.signal }).then(() => 'aborted' as const)] : []),
    ]);
    signal?.throwIfAborted();
    if (outcome === 'late')
      throw new UploadError(408, `the client has sent nothing for ${withinMs / 1000} s`);
    if (source.readableLength > 0) return;
    const broken = outcome === 'closed' && !(source instanceof IncomingMessage && source.complete);
    const why = broken ? "the client's connection has broken" : 'the body is empty';
    throw new UploadError(400, `Saving stream failed: ${why}`);
  } finally {
    late.abort();
  }
}

/** Header of an answer that another moment may better, in seconds. */
export const RETRY_LATER = { 'retry-after': '5' } as const;

/** Sends an answer as CDI does: plain text, escaped. */
export function sendAnswer(
  request: FastifyRequest,
  reply: FastifyReply,
  { status, message }: UploadAnswer,
): FastifyReply {
  // whoever was not told to send may send or not: the next request on this connection could not be told from a body
  if (isUntold(request.raw)) void reply.header('connection', 'close');
  if (status === 503) void reply.headers(RETRY_LATER);
  return reply
    .code(status)
    .type('text/plain; charset=utf-8')
    .header('x-content-type-options', 'nosniff')
    .send(request.raw.method === 'HEAD' ? '' : escapeHtml(message));
}

/** A browser that takes the text for a page must not find one in it. */
function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
