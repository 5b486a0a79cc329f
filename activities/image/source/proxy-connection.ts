import type { IncomingMessage } from 'node:http';
import { connect as connectTcp } from 'node:net';
import type { Socket } from 'node:net';
import type { SecureContext } from 'node:tls';
import type { ApplicationFailure } from '@temporalio/common';
import { permanentFailure, transientFailure } from '../../failures.js';
import type { AddressGuard } from './addresses.js';
import { ADDRESS_ATTEMPT_MS, serverNameOf } from './addresses.js';
import { connectionFailure, statusText } from './http-failures.js';
import { http, tls } from './node-http.js';

/** Until a proxy is connected and has answered, in ms. */
const PROXY_TIMEOUT_MS = 30_000;

/** A proxy, and whom to trust on the way to it. */
export interface Proxy {
  /** Without user info. */
  readonly url: URL;
  /** `Proxy-Authorization`, from the user info. */
  readonly authorization?: string;
  readonly secure: () => SecureContext;
}

/** What connections to a proxy are made with. */
export interface Approach {
  readonly proxy: Proxy;
  readonly guard: AddressGuard;
  /** Aborts when the agent is destroyed. */
  readonly signal: AbortSignal;
}

/**
 * Connects to a proxy, whose address is judged like that of a source.
 *
 * @throws `SourceUnavailable`, `SourceCertificateInvalid`, `SourceNotAllowed`; each says that it is the proxy's.
 */
export async function connectToProxy(approach: Approach): Promise<Socket> {
  const { guard } = approach;
  const { url, secure } = approach.proxy;
  const host = url.hostname.replace(/^\[|\]$/gu, '');
  const refusal = guard.refuseLiteral(host);
  if (refusal) throw proxyFailure(approach.proxy, refusal);
  const isSecure = url.protocol === 'https:';
  const target = {
    host,
    port: Number(url.port || (isSecure ? 443 : 80)),
    lookup: guard.lookup,
    autoSelectFamilyAttemptTimeout: ADDRESS_ATTEMPT_MS,
  };
  if (!isSecure) return await connected(approach, connectTcp(target), 'connect');
  const servername = serverNameOf(host);
  const secured = { ...target, servername, secureContext: secure(), ALPNProtocols: ['http/1.1'] };
  return await connected(approach, tls().connect(secured), 'secureConnect');
}

async function connected(approach: Approach, socket: Socket, event: string): Promise<Socket> {
  // between two readers nobody listens; the next one meets the end of the connection
  socket.on('error', () => undefined);
  await inTime(approach, socket, (resolve, reject) => {
    socket.once('error', reject).once(event, resolve);
  });
  return socket;
}

/**
 * Lets a proxy connect to `target`, `host:port`; what is written to the socket from then on goes there. An answer that is no
 * success ends here: nothing that a proxy says may look like the answer of the server behind it.
 *
 * @throws `SourceForbidden` when it refuses (407, 403), `SourceUnavailable` when it cannot, and what {@link connectToProxy} throws.
 */
export async function openTunnel(approach: Approach, target: string): Promise<Socket> {
  const { proxy } = approach;
  const socket = await connectToProxy(approach);
  const login = proxy.authorization === undefined ? {} : { 'proxy-authorization': proxy.authorization };
  const request = http.request({
    method: 'CONNECT',
    path: target,
    headers: { host: target, ...login },
    createConnection: () => socket,
  });
  const { statusCode = 0 } = await inTime<IncomingMessage>(approach, socket, (resolve, reject) => {
    request.on('error', reject);
    request.once('connect', (answer, _socket, head: Buffer) => {
      if (head.length > 0) socket.unshift(head);
      resolve(answer);
    });
    request.end();
  });
  if (statusCode >= 200 && statusCode < 300) return socket;
  socket.destroy();
  throw refusedTunnel(proxy, target, statusCode);
}

/** A proxy that says nothing is as bad as one that is not there. */
async function inTime<T>(
  { proxy, signal }: Approach,
  socket: Socket,
  start: (resolve: (value: T) => void, reject: (error: Error) => void) => void,
): Promise<T> {
  let end = (): void => undefined;
  try {
    return await new Promise<T>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`no answer for ${PROXY_TIMEOUT_MS} ms`)),
        PROXY_TIMEOUT_MS,
      );
      const onAbort = (): void => reject(signal.reason as Error);
      signal.addEventListener('abort', onAbort, { once: true });
      end = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
      };
      if (signal.aborted) onAbort();
      start(resolve, reject);
    });
  } catch (error) {
    socket.destroy();
    throw proxyFailure(proxy, error);
  } finally {
    end();
  }
}

/** A refused address says that it is the proxy's, not the source's. */
function proxyFailure({ url }: Proxy, error: unknown): ApplicationFailure {
  const doing = `proxy ${url.origin}`;
  const failure = connectionFailure(error, doing, 'proxy');
  if (failure.type !== 'SourceNotAllowed') return failure;
  return permanentFailure('SourceNotAllowed', `${doing}: ${failure.message}`);
}

function refusedTunnel({ url }: Proxy, target: string, status: number): ApplicationFailure {
  const message = `proxy ${url.origin} answered ${statusText(status)} to CONNECT ${target}`;
  const final = status >= 400 && status < 500 && status !== 408 && status !== 429;
  return final
    ? permanentFailure('SourceForbidden', message)
    : transientFailure('SourceUnavailable', message);
}
