import type { Agent as HttpAgent } from 'node:http';
import type { Agent as HttpsAgent } from 'node:https';
import type { ConnectionOptions } from 'node:tls';
import type { AddressGuard } from './addresses.js';
import { ADDRESS_ATTEMPT_MS, serverNameOf } from './addresses.js';
import { createProxyBypass } from './no-proxy.js';
import { createForwardAgent, createTunnelAgent, parseProxy } from './proxies.js';
import { http, https } from './node-http.js';
import type { OriginTls } from './proxies.js';
import type { Proxy } from './proxy-connection.js';
import { createTrust } from './trust.js';
import type { HttpRequest, ProxySettings } from './types.js';

/** An agent for each scheme, as got takes them. */
export interface AgentPair {
  readonly http: HttpAgent;
  readonly https: HttpsAgent;
}

/** Names a bundle in messages. */
const PROXIES_BUNDLE = "the proxies' CA bundle";

/** The connections of one source; every one of them goes through its {@link AddressGuard}. */
export interface SourceAgents {
  /** The agents for a request to `url`. Whether it goes through a proxy is judged by its host, so ask anew for each redirect. */
  for(url: URL): AgentPair;
  /** A request to `url` goes through a proxy: readers with connections of their own leave it to {@link SourceAgents.for}. */
  isProxied(url: URL): boolean;
  readonly guard: AddressGuard;
  /** Certificates are checked: whoever named an https address wants to know who answers. */
  readonly verified: boolean;
  /** Options of a TLS connection to the source. */
  readonly tls: () => OriginTls;
  /** Ends the connections that are kept for a later request. */
  closeIdle(): void;
  /** Ends idle and busy connections. */
  close(): void;
}

/**
 * Makes the agents of one source: kept-alive connections, TLS 1.2 or later, the DataVolume's CA and that of the operator's
 * proxies besides the system's roots, and the proxies themselves. A proxy that intercepts TLS signs for every origin by its own
 * CA, and one that does so unasked is named nowhere: that CA is trusted with and without a proxy (CDI's rule).
 *
 * Without a proxy each address is judged: those of names as they are resolved, and literal ones. With a proxy the addresses of
 * the proxy and literal targets are judged the same way; **what a name stands for is resolved by the proxy and seen by it only**,
 * so keeping names away that point at the cluster is the business of the proxy's own rules.
 *
 * @throws `InvalidDataVolume` when a CA bundle holds no certificate or one that cannot be read, or a proxy has no usable address.
 */
export function createAgents(
  request: Pick<HttpRequest, 'ca' | 'insecureSkipVerify' | 'proxy'>,
  guard: AddressGuard,
): SourceAgents {
  const trust = createTrust({ 'CA bundle': request.ca, [PROXIES_BUNDLE]: request.proxy?.ca });
  const rejectUnauthorized = !request.insecureSkipVerify;
  // reading hundreds of roots takes its time: only for sources that need them
  const tls = (): OriginTls => ({ secureContext: trust(), rejectUnauthorized });
  const tlsTo = (host: string): ConnectionOptions => ({ ...tls(), servername: serverNameOf(host) });
  const shared = {
    keepAlive: true,
    lookup: guard.lookup,
    autoSelectFamilyAttemptTimeout: ADDRESS_ATTEMPT_MS,
  };
  const direct = lazily({
    http: () => guarded(new http.Agent(shared), guard, () => ({})),
    https: () => guarded(new (https().Agent)({ ...shared, rejectUnauthorized }), guard, tlsTo),
  });
  const proxies = proxiesOf(request.proxy);
  const bypass = createProxyBypass(request.proxy?.noProxy ?? '');
  const { http: forward, https: tunnel } = proxies;
  const proxied = lazily({
    http: () => (forward ? createForwardAgent(forward, guard) : direct.pair.http),
    https: () => (tunnel ? createTunnelAgent(tunnel, guard, tls) : direct.pair.https),
  });

  function isProxied(url: URL): boolean {
    return (url.protocol === 'https:' ? proxies.https : proxies.http) !== undefined && !bypass(url);
  }

  return {
    for: (url) => (isProxied(url) ? proxied : direct).pair,
    isProxied,
    verified: rejectUnauthorized,
    guard,
    tls,
    closeIdle() {
      direct.destroyIdle();
      proxied.destroyIdle();
    },
    close() {
      direct.destroy();
      proxied.destroy();
    },
  };
}

/** Agents that are made when they are asked for: that of https takes its time. */
function lazily(make: { readonly http: () => HttpAgent; readonly https: () => HttpsAgent }): {
  readonly pair: AgentPair;
  destroyIdle(): void;
  destroy(): void;
} {
  let plain: HttpAgent | undefined;
  let secure: HttpsAgent | undefined;
  return {
    pair: {
      get http() {
        return (plain ??= make.http());
      },
      get https() {
        return (secure ??= make.https());
      },
    },
    destroyIdle() {
      for (const agent of [plain, secure])
        for (const socket of Object.values(agent?.freeSockets ?? {}).flat()) socket?.destroy();
    },
    destroy() {
      plain?.destroy();
      secure?.destroy();
    },
  };
}

function proxiesOf(settings: ProxySettings | undefined): { readonly http?: Proxy; readonly https?: Proxy } {
  if (!settings) return {};
  const secure = createTrust({ [PROXIES_BUNDLE]: settings.ca });
  const proxyOf = (address: string | undefined): Proxy | undefined =>
    address ? { ...parseProxy(address), secure } : undefined;
  const [http, https] = [proxyOf(settings.http), proxyOf(settings.https)];
  return { ...(http ? { http } : {}), ...(https ? { https } : {}) };
}

/** Sockets to a literal address never call `lookup`, so the address is judged where the socket is made. */
function guarded<A extends HttpAgent>(
  agent: A,
  guard: AddressGuard,
  more: (host: string) => ConnectionOptions,
): A {
  const connect = agent.createConnection.bind(agent);
  agent.createConnection = (options, callback) => {
    const host = String(options.host ?? options.hostname ?? '');
    const refusal = guard.refuseLiteral(host);
    if (!refusal) return connect(Object.assign({}, options, more(host)), callback);
    process.nextTick(() => (callback as (error: Error) => void)(refusal));
    return undefined;
  };
  return agent;
}
