import assert from 'node:assert/strict';
import dns from 'node:dns';
import { syncBuiltinESMExports } from 'node:module';
import {
  bufferContent,
  startContentServer,
  startRedirectServer,
  startServer,
} from '../../support/servers/index.js';
import { MIB } from '../support/images.js';
import type { Props, Trick } from './trick.js';

const NOBODY = { allowed: [], denied: [] };
const METADATA = '169.254.169.254';
const REFUSED_METADATA = /connections to \S+ are refused: 169\.254\.169\.254 \(link-local\)/u;

/** Only to count whom nobody may reach. */
let reached = 0;

async function redirectTo({ serve }: Props, target: string): Promise<{ url: string }> {
  return { url: (await serve(startRedirectServer(() => target))).url };
}

/** Where a server may lead to, and what a name may stand for. */
export const ADDRESS_TRICKS: readonly Trick[] = [
  {
    name: 'redirects-10000',
    type: 'SourceNotFound',
    message: /: more than 10 redirects$/u,
    once: true,
    async play({ serve }) {
      const chain = await serve(
        startRedirectServer((path) => ((reached += 1), `/${Number(path.slice(1)) - 1}`)),
      );
      reached = 0;
      return { url: `${chain.url}/10000` };
    },
    afterwards: () => assert.equal(reached, 11),
  },
  {
    name: 'redirect-to-file',
    type: 'SourceNotAllowed',
    message: /redirect to a scheme that is neither http nor https$/u,
    once: true,
    play: (props) => redirectTo(props, 'file:///etc/shadow'),
  },
  {
    name: 'redirect-to-file-after-another',
    type: 'SourceNotAllowed',
    message: /redirect to a scheme that is neither http nor https$/u,
    once: true,
    async play({ serve }) {
      const server = await serve(
        startRedirectServer((path) => (path === '/next' ? 'file:///etc/shadow' : '/next')),
      );
      return { url: server.url };
    },
  },
  {
    name: 'metadata-address',
    type: 'SourceNotAllowed',
    message: REFUSED_METADATA,
    once: true,
    play: () => ({ url: `http://${METADATA}/latest/meta-data` }),
  },
  {
    name: 'redirect-to-metadata-address',
    type: 'SourceNotAllowed',
    message: REFUSED_METADATA,
    once: true,
    play: (props) => redirectTo(props, `http://${METADATA}/latest/meta-data`),
  },
  {
    name: 'loopback-as-mapped-ipv6',
    type: 'SourceNotAllowed',
    message: /are refused: ::ffff:7f00:1 \(loopback\)/u,
    once: true,
    options: { policy: NOBODY },
    async play({ serve }) {
      reached = 0;
      const server = await serve(startServer(() => void (reached += 1)));
      return { url: `http://[::ffff:127.0.0.1]:${server.port}/` };
    },
    afterwards: () => assert.equal(reached, 0),
  },
  {
    name: 'dns-name-that-flips-before-the-first-connection',
    type: 'SourceNotAllowed',
    message: REFUSED_METADATA,
    once: true,
    play: (props) => flipping(props, 0),
  },
  {
    // the name is good for the probe and bad for the connections that read the image
    name: 'dns-name-that-flips-between-two-connections',
    type: 'SourceNotAllowed',
    message: REFUSED_METADATA,
    late: true,
    mostRead: 4 * MIB,
    play: (props) => flipping(props, 1),
  },
];

/** The name stands for loopback so many times, then for the metadata address. A connection is to what its own look-up said. */
async function flipping({ serve, honest, undo }: Props, times: number): Promise<{ url: string }> {
  // each answer is the last of its connection
  const server = await serve(startContentServer(bufferContent(honest), { dropAfter: MIB + 1000 }));
  const original = dns.lookup;
  let lookups = 0;
  const lookup = (
    hostname: string,
    _options: unknown,
    callback: (error: null, addresses: dns.LookupAddress[]) => void,
  ): void => {
    assert.equal(hostname, 'flips.test');
    const address = (lookups += 1) <= times ? '127.0.0.1' : METADATA;
    setImmediate(() => callback(null, [{ address, family: 4 }]));
  };
  dns.lookup = lookup as unknown as typeof dns.lookup;
  syncBuiltinESMExports();
  undo(() => {
    dns.lookup = original;
    syncBuiltinESMExports();
  });
  return { url: `http://flips.test:${server.port}/disk` };
}
