import { X509Certificate } from 'node:crypto';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { createSecureContext, getCACertificates } from 'node:tls';
import type { ConnectionOptions, SecureContext } from 'node:tls';
import { permanentFailure } from '../../failures.js';
import type { AddressGuard } from './addresses.js';
import type { SourceRequest } from './types.js';

/** The connections of one source; every one of them goes through its {@link AddressGuard}. */
export interface SourceAgents {
  readonly http: HttpAgent;
  readonly https: HttpsAgent;
  /** Ends idle and busy connections. */
  close(): void;
}

/**
 * Makes the agents of one source: kept-alive connections, TLS 1.2 or later, the DataVolume's CA besides the system's roots.
 *
 * @throws `InvalidDataVolume` when the CA bundle holds no certificate or one that cannot be read.
 */
export function createAgents(
  request: Pick<SourceRequest, 'ca' | 'insecureSkipVerify'>,
  guard: AddressGuard,
): SourceAgents {
  const shared = { keepAlive: true, lookup: guard.lookup };
  const own = request.ca === undefined ? [] : certificatesIn(request.ca);
  let context: SecureContext | undefined;
  const http = guarded(new HttpAgent(shared), guard, () => ({}));
  const https = guarded(
    new HttpsAgent({ ...shared, rejectUnauthorized: !request.insecureSkipVerify }),
    guard,
    // reading hundreds of roots takes its time: only for sources that need them
    () => ({ secureContext: (context ??= secureContextOf(own)) }),
  );
  return {
    http,
    https,
    close() {
      http.destroy();
      https.destroy();
    },
  };
}

/** Sockets to a literal address never call `lookup`, so the address is judged where the socket is made. */
function guarded<A extends HttpAgent>(agent: A, guard: AddressGuard, more: () => ConnectionOptions): A {
  const connect = agent.createConnection.bind(agent);
  agent.createConnection = (options, callback) => {
    const refusal = guard.refuseLiteral(String(options.host ?? options.hostname ?? ''));
    if (!refusal) return connect(Object.assign({}, options, more()), callback);
    process.nextTick(() => (callback as (error: Error) => void)(refusal));
    return undefined;
  };
  return agent;
}

function secureContextOf(own: readonly string[]): SecureContext {
  const roots = new Set([...getCACertificates('default'), ...getCACertificates('system')]);
  return createSecureContext({ ca: [...roots, ...own], minVersion: 'TLSv1.2' });
}

/** Each certificate of a bundle, proven to be one: OpenSSL would leave out what it cannot read without a word. */
function certificatesIn(bundle: string): string[] {
  const blocks = bundle.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/gu) ?? [];
  if (blocks.length === 0) throw permanentFailure('InvalidDataVolume', 'CA bundle holds no PEM certificate');
  return blocks.map((block, index) => {
    try {
      return new X509Certificate(block).toString();
    } catch (error) {
      const text = `CA bundle: certificate ${index + 1} of ${blocks.length} cannot be read`;
      throw permanentFailure('InvalidDataVolume', text, error);
    }
  });
}
