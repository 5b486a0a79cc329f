/**
 * Ways through a proxy. The packages for this hand the proxy's own answer to CONNECT to the reader as if the origin had given
 * it, which lets a proxy answer for an https server, and check a server at a literal address under another name: so the ways
 * are made here, of Node's agents and parser.
 */
import type { ClientRequest, Agent as HttpAgent, RequestOptions } from 'node:http';
import type { Agent as HttpsAgent } from 'node:https';
import { isIPv6 } from 'node:net';
import type { Socket } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import { permanentFailure } from '../../failures.js';
import { serverNameOf, type AddressGuard } from './addresses.js';
import { http, https } from './node-http.js';
import { userInfoAuth } from './origin.js';
import { connectToProxy, openTunnel } from './proxy-connection.js';
import type { Proxy } from './proxy-connection.js';

/** How a source's own server is verified. */
export type OriginTls = Pick<ConnectionOptions, 'secureContext' | 'rejectUnauthorized'>;

/**
 * Reads a proxy's address; one without a scheme is `http` (Go's rule).
 *
 * @throws `InvalidDataVolume`, without the address: it may hold credentials.
 */
export function parseProxy(address: string): Omit<Proxy, 'secure'> {
  const text = address.trim();
  const url = URL.parse(text.includes('://') ? text : `http://${text}`);
  if (!url) throw permanentFailure('InvalidDataVolume', 'the address of the proxy is not a URL');
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    const scheme = url.protocol.slice(0, -1);
    throw permanentFailure('InvalidDataVolume', `the proxy has scheme ${scheme}, expected http or https`);
  }
  const authorization = userInfoAuth(url);
  return { url: new URL(url.origin), ...(authorization === undefined ? {} : { authorization }) };
}

/** Node's agents are asked by this method; its declarations leave it out. */
interface RequestQueue {
  addRequest(request: ClientRequest, options: RequestOptions): void;
}

/** For `http:` targets: the proxy gets the whole URL in the request line, and the request itself. */
export function createForwardAgent(proxy: Proxy, guard: AddressGuard): HttpAgent {
  const agent: HttpAgent & Partial<RequestQueue> = new http.Agent({ keepAlive: true });
  const enqueue = agent.addRequest?.bind(agent);
  agent.addRequest = (request, options) => {
    request.path = `http://${authorityOf(options, 80)}${request.path}`;
    if (proxy.authorization !== undefined) request.setHeader('proxy-authorization', proxy.authorization);
    enqueue?.(request, options);
  };
  answering(agent, async (options, signal) => {
    requireAllowed(guard, options);
    return await connectToProxy({ proxy, guard, signal });
  });
  return agent;
}

/** For `https:` targets: the proxy opens a tunnel, through which TLS is spoken with the origin itself. */
export function createTunnelAgent(proxy: Proxy, guard: AddressGuard, tls: () => OriginTls): HttpsAgent {
  const agent = new (https().Agent)({ keepAlive: true });
  const connect = agent.createConnection.bind(agent);
  answering(agent, async (options, signal) => {
    requireAllowed(guard, options);
    const socket = await openTunnel({ proxy, guard, signal }, authorityOf(options, undefined));
    const servername = serverNameOf(hostOf(options));
    return connect(Object.assign({}, options, tls(), { servername, socket })) as Socket;
  });
  return agent;
}

/** Lets an agent wait for its connections, and ends those that it waits for when it is destroyed. */
function answering(
  agent: HttpAgent,
  open: (options: RequestOptions, signal: AbortSignal) => Promise<Socket>,
): void {
  const closing = new AbortController();
  const destroy = agent.destroy.bind(agent);
  agent.destroy = () => {
    closing.abort(new Error('source is closed'));
    destroy();
  };
  agent.createConnection = (options, callback) => {
    const settle = callback as (error: Error | null, socket?: Socket) => void;
    open(options, closing.signal).then(
      (socket) => settle(null, socket),
      (error: Error) => settle(error),
    );
    return undefined;
  };
}

/** A name is the proxy's to resolve; an address can be judged here, and a proxy is no way around what is refused. */
function requireAllowed(guard: AddressGuard, options: RequestOptions): void {
  const refusal = guard.refuseLiteral(hostOf(options));
  if (refusal) throw refusal;
}

function hostOf({ host, hostname }: RequestOptions): string {
  return host ?? hostname ?? '';
}

function authorityOf(options: RequestOptions, implied: number | undefined): string {
  const name = hostOf(options);
  const { port } = options;
  const shown = isIPv6(name) ? `[${name}]` : name;
  return Number(port) === implied ? shown : `${shown}:${port ?? ''}`;
}
