import { connect as connectTcp, Socket } from 'node:net';
import type { OnReadOpts } from 'node:net';
import type { SourceAgents } from './agents.js';
import { ADDRESS_ATTEMPT_MS, serverNameOf } from './addresses.js';
import { tls as nodeTls } from './node-http.js';

/**
 * A connection to a source's server, straight (no proxy), whose reads land where `onread` says; every address is judged by the
 * source's guard first, as the agents do it. A refused literal address is a socket that fails with the refusal.
 */
export function dial({ guard, tls }: SourceAgents, url: URL, onread: OnReadOpts): Socket {
  const host = url.hostname.replace(/^\[|\]$/gu, '');
  const refusal = guard.refuseLiteral(host);
  if (refusal) return new Socket().destroy(refusal);
  const secure = url.protocol === 'https:';
  const options = {
    host,
    port: Number(url.port || (secure ? 443 : 80)),
    lookup: guard.lookup,
    autoSelectFamilyAttemptTimeout: ADDRESS_ATTEMPT_MS,
    onread,
  };
  if (!secure) return connectTcp(options);
  const servername = serverNameOf(host);
  return nodeTls().connect({ ...options, ...tls(), servername, ALPNProtocols: ['http/1.1'] });
}
