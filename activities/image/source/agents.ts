import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { createSecureContext, getCACertificates } from 'node:tls';
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
 * @throws `InvalidDataVolume` when the CA bundle is not PEM.
 */
export function createAgents(
  request: Pick<SourceRequest, 'ca' | 'insecureSkipVerify'>,
  guard: AddressGuard,
): SourceAgents {
  const shared = { keepAlive: true, lookup: guard.lookup };
  const http = guarded(new HttpAgent(shared), guard);
  const https = guarded(
    new HttpsAgent({
      ...shared,
      secureContext: secureContextOf(request.ca),
      rejectUnauthorized: !request.insecureSkipVerify,
    }),
    guard,
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
function guarded<A extends HttpAgent>(agent: A, guard: AddressGuard): A {
  const connect = agent.createConnection.bind(agent);
  agent.createConnection = (options, callback) => {
    const refusal = guard.refuseLiteral(String(options.host ?? options.hostname ?? ''));
    if (!refusal) return connect(options, callback);
    process.nextTick(() => (callback as (error: Error) => void)(refusal));
    return undefined;
  };
  return agent;
}

function secureContextOf(ca: string | undefined): ReturnType<typeof createSecureContext> {
  const roots = [...new Set([...getCACertificates('default'), ...getCACertificates('system')])];
  if (ca !== undefined && !ca.includes('-----BEGIN CERTIFICATE-----')) {
    throw permanentFailure('InvalidDataVolume', 'CA bundle holds no PEM certificate');
  }
  try {
    return createSecureContext({ ca: ca === undefined ? roots : [...roots, ca], minVersion: 'TLSv1.2' });
  } catch (error) {
    throw permanentFailure('InvalidDataVolume', 'CA bundle is not valid PEM', error);
  }
}
