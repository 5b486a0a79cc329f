import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import {
  bufferContent,
  createAuthority,
  startContentServer,
  startRedirectServer,
  startServer,
  type Behaviour,
} from '../../support/servers/index.js';
import { MIB } from '../support/images.js';
import type { Props, Trick } from './trick.js';

/** Only to count whom nobody may reach. */
let reached = 0;

/** Without a length and without an end. */
async function endless({ serve }: Props, beginning: Buffer, piece = randomBytes(65_536)) {
  const server = await serve(
    startServer(async (_request, response) => {
      response.writeHead(200, { etag: '"v1"' });
      response.write(beginning);
      let go = (): void => undefined;
      response.on('drain', () => go()).on('close', () => go());
      while (!response.destroyed) {
        if (response.write(piece)) await new Promise((resolve) => setImmediate(resolve));
        else await new Promise<void>((resolve) => (go = resolve));
      }
    }),
  );
  return { url: server.url };
}

async function offered({ serve }: Props, bytes: Buffer, behaviour: Behaviour): Promise<{ url: string }> {
  return { url: (await serve(startContentServer(bufferContent(bytes), behaviour))).url };
}

const ENDLESS = {
  type: 'ImageHostile',
  message: /^source has more than 201326592 bytes, for a disk of at most 8388608: it may have no end$/u,
  once: true,
  late: true,
  mostRead: 200 * MIB,
} as const;

const EMPTY_PARTS = {
  type: 'ImageHostile',
  message: /^(?:gzip|zstd) stream has more than 100 parts in a row that hold nothing$/u,
  once: true,
  late: true,
} as const;
const SKIPPABLE_FRAME = Buffer.from('502a4d1800000000', 'hex');

/** What a server answers. */
export const ANSWER_TRICKS: readonly Trick[] = [
  {
    name: 'header-of-1-mib',
    type: 'SourceUnavailable',
    permanent: false,
    message: /: headers are larger than 65536 bytes/u,
    once: true,
    async play({ serve }) {
      const huge = { 'x-large': 'x'.repeat(MIB) };
      return {
        url: (await serve(startServer((_, response) => void response.writeHead(200, huge).end()))).url,
      };
    },
  },
  {
    name: 'endless-body',
    type: 'LargerPVCRequired',
    message: /^image needs at least \d+ bytes, claim \S+ offers 8388608$/u,
    once: true,
    late: true,
    mostRead: 10 * MIB,
    play: (props) => endless(props, Buffer.alloc(0)),
  },
  {
    name: 'endless-body-after-a-qcow2',
    ...ENDLESS,
    play: (props) => endless(props, props.honest),
  },
  {
    name: 'endless-zeros-after-a-gz',
    ...ENDLESS,
    play: (props) => endless(props, gzipSync(props.honest, { level: 1 }), Buffer.alloc(65_536)),
  },
  {
    name: 'endless-members-of-a-gz',
    ...EMPTY_PARTS,
    play: (props) => endless(props, gzipSync('disk'), Buffer.concat(Array(2000).fill(gzipSync('')))),
  },
  {
    name: 'endless-frames-of-a-zst',
    ...EMPTY_PARTS,
    play: (props) =>
      endless(props, zstdCompressSync('disk'), Buffer.concat(Array(5000).fill(SKIPPABLE_FRAME))),
  },
  {
    name: 'endless-body-whose-checksum-is-asked-for',
    ...ENDLESS,
    checksum: `sha256:${'0'.repeat(64)}`,
    play: (props) => endless(props, props.honest),
  },
  {
    // behind ranges the rest is asked for, and comes
    name: 'content-length-beyond-the-body',
    type: 'SourceUnavailable',
    permanent: false,
    message: /connection (?:reset|closed before the end of the body) \(/u,
    once: true,
    late: true,
    mostRead: 16 * MIB,
    play: (props) => offered(props, props.honest, { ranges: false, truncateAfter: 1_500_000 }),
  },
  {
    name: 'content-length-within-the-body',
    type: 'ImageInvalid',
    message: /cut short/u,
    late: true,
    mostRead: 4 * MIB,
    play: (props, ranges) => offered(props, props.honest.subarray(0, 700_000), { ranges }),
  },
];

/** Ways to be spoken with less safely than was asked for. */
export const TLS_TRICKS: readonly Trick[] = [
  {
    name: 'tls-downgrade-by-version',
    type: 'SourceUnavailable',
    permanent: false,
    message: /TLS/u,
    once: true,
    async play({ undo }) {
      const authority = await createAuthority();
      const tls = await authority.issue(['localhost']);
      const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
      const server = createTlsServer(
        { ...tls, ...old },
        (socket: Socket) => void ((reached += 1), socket.end()),
      );
      reached = 0;
      server.on('tlsClientError', () => undefined).listen(0, '127.0.0.1');
      await once(server, 'listening');
      undo(() => server.close());
      return { url: `https://localhost:${(server.address() as AddressInfo).port}/`, ca: authority.ca };
    },
    afterwards: () => assert.equal(reached, 0),
  },
  ...[0, 1].map((hops): Trick => ({
    name: `tls-downgrade-by-redirect, after ${hops} others`,
    type: 'SourceNotAllowed',
    message: /redirect from https to http, where nobody proves who answers/u,
    once: true,
    async play({ serve }) {
      const authority = await createAuthority();
      const tls = await authority.issue(['localhost']);
      reached = 0;
      const target = await serve(
        startServer((_request, response) => void ((reached += 1), response.writeHead(200).end('QFI'))),
      );
      let { url } = target;
      for (let hop = 0; hop <= hops; hop += 1) {
        const next = `${url}/disk`;
        url = (await serve(startRedirectServer(() => next, { tls }))).url;
      }
      return { url, ca: authority.ca };
    },
    afterwards: () => assert.equal(reached, 0),
  })),
];
