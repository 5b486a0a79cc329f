import { createServer as createHttp } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, Server as HttpServer, ServerResponse } from 'node:http';
import { createServer as createHttps, type ServerOptions as HttpsOptions } from 'node:https';
import { createServer as createTcp } from 'node:net';
import type { AddressInfo, Server as TcpServer, Socket } from 'node:net';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';

/** One request as a test server saw it. */
export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** Bytes of the body sent in answer so far. */
  bytesSent: number;
}

/** A server on a free port of the loopback address. */
export interface RunningServer {
  /** `http://127.0.0.1:port`, without a slash at the end; for TLS `https://localhost:port`. */
  readonly url: string;
  readonly port: number;
  /** Requests so far, in the order in which they came. */
  requests(): readonly SeenRequest[];
  /** Bytes of bodies sent, all requests together. */
  bytesSent(): number;
  /** Connections accepted so far. */
  connections(): number;
  /** Resets all connections; the server goes on. */
  dropConnections(): void;
  /** Ends the server and all of its connections. */
  close(): Promise<void>;
}

/** Key and certificate in PEM. */
export interface ServerTls {
  readonly key: string;
  readonly cert: string;
  readonly ciphers?: string;
  /** Asks the client for a certificate of this authority, and ends the handshake without one. */
  readonly clientAuthority?: string;
}

/** How to listen. */
export interface ListenOptions {
  readonly tls?: ServerTls;
  /** @default 0, a free one */
  readonly port?: number;
  /** Answers CONNECT. @default the connection is closed */
  readonly onConnect?: (request: IncomingMessage, socket: Socket, head: Buffer) => void;
}

/** Answers one request; `index` counts from 0, bytes of the body are added to `seen.bytesSent`. */
export type Handler = (
  request: IncomingMessage,
  response: ServerResponse,
  seen: SeenRequest,
  index: number,
) => void | Promise<void>;

/** Starts an HTTP server, or with `tls` an HTTPS server, around a handler. */
export async function startServer(handler: Handler, options: ListenOptions = {}): Promise<RunningServer> {
  const requests: SeenRequest[] = [];
  // of requests that are sent ahead each is answered when the one before is done, as real servers do it
  const turns = new WeakMap<Socket, Promise<unknown>>();
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    const { method = '', url = '', headers } = request;
    const seen: SeenRequest = { method, path: url, headers, bytesSent: 0 };
    const index = requests.push(seen) - 1;
    const { socket } = request;
    const answer = async (): Promise<void> => {
      if (socket.destroyed) return;
      const done = new Promise((resolve) => response.once('close', resolve));
      await handler(request, response, seen, index);
      await done;
    };
    const turn = (turns.get(socket) ?? Promise.resolve()).then(answer).catch(() => socket.destroy());
    turns.set(socket, turn);
  };
  const { tls, onConnect } = options;
  const server = tls ? createHttps(secured(tls), listener) : createHttp(listener);
  if (onConnect) server.on('connect', onConnect);
  return listening(server, requests, { scheme: tls ? 'https' : 'http', port: options.port ?? 0 });
}

function secured({ clientAuthority, ...tls }: ServerTls): HttpsOptions {
  if (clientAuthority === undefined) return tls;
  return { ...tls, ca: clientAuthority, requestCert: true, rejectUnauthorized: true };
}

/** Starts a server of raw connections, for answers that node:http would not send. */
export async function startRawServer(onConnection: (socket: Socket) => void): Promise<RunningServer> {
  return listening(createTcp(onConnection), [], { scheme: 'http', port: 0 });
}

async function listening(
  server: HttpServer | TcpServer,
  requests: SeenRequest[],
  { scheme, port }: { scheme: string; port: number },
): Promise<RunningServer> {
  const sockets = new Set<Socket>();
  let connections = 0;
  server.on('connection', (socket: Socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
  });
  server.on('tlsClientError', () => undefined);
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  const bound = (server.address() as AddressInfo).port;
  return {
    url: `${scheme}://${scheme === 'https' ? 'localhost' : '127.0.0.1'}:${bound}`,
    port: bound,
    requests: () => requests,
    bytesSent: () => requests.reduce((sum, request) => sum + request.bytesSent, 0),
    connections: () => connections,
    dropConnections() {
      for (const socket of sockets) socket.resetAndDestroy();
    },
    async close() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** Writes with back-pressure, counting; ends early when the reader is gone. */
export async function sendBody(
  body: AsyncIterable<Buffer> | Iterable<Buffer> | Readable,
  target: Writable,
  seen: SeenRequest,
): Promise<void> {
  for await (const chunk of body as AsyncIterable<Buffer>) {
    if (target.destroyed) return;
    seen.bytesSent += chunk.length;
    if (!target.write(chunk)) await drained(target);
  }
}

async function drained(target: Writable): Promise<void> {
  if (target.destroyed) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      target.off('drain', done).off('close', done);
      resolve();
    };
    target.on('drain', done).on('close', done);
  });
}
