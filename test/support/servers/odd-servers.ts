import type { Socket } from 'node:net';
import { bufferContent } from './content.js';
import { startContentServer } from './content-server.js';
import { startRawServer, startServer } from './server.js';
import type { ListenOptions, RunningServer } from './server.js';

/** Accepts connections and requests and never answers. */
export function startSilentServer(): Promise<RunningServer> {
  return startServer(() => undefined);
}

/** Answers with a header line every 20 ms, without end. */
export function startEndlessHeaderServer(): Promise<RunningServer> {
  return startRawServer((socket) => {
    socket.resume();
    socket.write('HTTP/1.1 200 OK\r\n');
    const timer = setInterval(() => socket.write('x: y\r\n'), 20);
    socket.on('close', () => clearInterval(timer));
  });
}

/** Answers every request with a status and a page that no message may hold. */
export function startStatusServer(status: number, options: ListenOptions = {}): Promise<RunningServer> {
  return startContentServer(bufferContent(Buffer.alloc(0)), { status }, options);
}

/** Resets every connection as soon as a request comes. */
export function startResettingServer(): Promise<RunningServer> {
  return startRawServer((socket: Socket) => void socket.once('data', () => socket.resetAndDestroy()));
}

/** Answers something that is not HTTP. */
export function startNoiseServer(): Promise<RunningServer> {
  return startRawServer((socket) => void socket.once('data', () => socket.end('SSH-2.0-OpenSSH_9.6\r\n')));
}

/** Answers every request with a redirect to where `target` says (path of the request, its number from 0). */
export function startRedirectServer(
  target: (path: string, index: number) => string,
  options: ListenOptions & { readonly status?: number } = {},
): Promise<RunningServer> {
  const { status = 302 } = options;
  return startServer((request, response, _seen, index) => {
    response.writeHead(status, { location: target(request.url ?? '', index) }).end();
  }, options);
}
