import type { IncomingMessage, ServerResponse } from 'node:http';

/** A client that has not read its answer by then does not listen, in ms. */
const LINGER_MS = 10_000;

/**
 * Reads the rest of a body away once it is answered, for a time, then cuts the connection: one that is closed at once is reset, and a
 * client that still sends never sees its answer. Call before the answer: where a client wants its connection closed, Node closes it
 * with the answer otherwise.
 */
export function lingerAfter(request: IncomingMessage, response: ServerResponse): void {
  const closes = /\bclose\b/i.test(request.headers.connection ?? '');
  if (closes) response.setHeader('connection', 'keep-alive');
  const close = (): void => void (closes && request.socket.destroySoon());
  response.once('finish', () => {
    // one that was read to its end is destroyed, too
    if (request.complete) return close();
    if (request.destroyed) return;
    request.on('error', () => undefined);
    const cut = setTimeout(() => request.socket.destroy(), LINGER_MS);
    cut.unref();
    request.once('close', () => clearTimeout(cut));
    request.once('end', () => {
      clearTimeout(cut);
      close();
    });
    // a reader that has stopped would hold it back
    request.unpipe();
    request.resume();
  });
}
