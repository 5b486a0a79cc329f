import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { handOn } from './hand-on.js';
import { startServer } from './server.js';
import type { ListenOptions, RunningServer } from './server.js';

/** What a proxy does. */
export interface ProxyOptions extends Pick<ListenOptions, 'tls'> {
  /** Port of the loopback address that a host and port stand for; without one the proxy answers 502. */
  readonly route: (host: string, port: number) => number | undefined;
  /** 407 without exactly these. */
  readonly login?: { readonly username: string; readonly password: string };
  /** Written in answer to CONNECT instead of opening a tunnel; the connection ends after it. */
  readonly connectAnswer?: string;
}

/** A request as a proxy saw it: `GET http://images.test/disk`, `CONNECT images.test:443`. */
export interface ProxiedRequest {
  readonly line: string;
  readonly headers: IncomingHttpHeaders;
}

/** A proxy for `http:` and `https:` targets, which resolves names as its `route` says. */
export interface ProxyServer extends RunningServer {
  readonly proxied: readonly ProxiedRequest[];
}

/** Starts a proxy on a free port of the loopback address. */
export async function startProxyServer(options: ProxyOptions): Promise<ProxyServer> {
  const { route, login, connectAnswer, tls } = options;
  const proxied: ProxiedRequest[] = [];
  const expected = login && `Basic ${Buffer.from(`${login.username}:${login.password}`).toString('base64')}`;
  const isRefused = ({ method, url, headers }: IncomingMessage): boolean => {
    proxied.push({ line: `${method} ${url}`, headers });
    return expected !== undefined && headers['proxy-authorization'] !== expected;
  };

  function forward(request: IncomingMessage, response: ServerResponse): void {
    if (isRefused(request)) {
      response.writeHead(407, { 'proxy-authenticate': 'Basic realm="test"' }).end('PROXY-PAGE');
      return;
    }
    const target = URL.parse(request.url ?? '');
    const port = target && route(target.hostname, Number(target.port || 80));
    if (!port) {
      response.writeHead(502).end('PROXY-PAGE');
      return;
    }
    handOn(request, response, new URL(`${target.pathname}${target.search}`, `http://127.0.0.1:${port}`));
  }

  function tunnel(request: IncomingMessage, socket: Socket, head: Buffer): void {
    const [host = '', port = '0'] = splitAuthority(request.url ?? '');
    const to = route(host, Number(port));
    if (isRefused(request)) socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n');
    else if (connectAnswer !== undefined) socket.end(connectAnswer);
    else if (!to) socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n');
    else join(socket, connect(to, '127.0.0.1'), head);
  }

  const server = await startServer(forward, { ...(tls ? { tls } : {}), onConnect: tunnel });
  return { ...server, proxied };
}

function join(near: Socket, far: Socket, head: Buffer): void {
  far.once('connect', () => {
    near.write('HTTP/1.1 200 Connection established\r\n\r\n');
    far.write(head);
    near.pipe(far).pipe(near);
  });
  for (const [one, other] of [
    [near, far],
    [far, near],
  ] as const) {
    one.on('error', () => undefined).on('close', () => other.destroy());
  }
}

function splitAuthority(authority: string): string[] {
  const colon = authority.lastIndexOf(':');
  return [authority.slice(0, colon), authority.slice(colon + 1)];
}
