import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import {
  createAuthority,
  createSelfSigned,
  bufferContent,
  startContentServer,
  startRawServer,
  startRedirectServer,
  startServer,
} from '../../support/servers/index.js';
import type { Behaviour, RunningServer } from '../../support/servers/index.js';
import { BYTES, collect, fails, useBench } from './open.js';

/** Sends the whole of the bytes, whatever is asked, by a hand-made head. */
function startHandMade(head: string, body: readonly Buffer[] = [BYTES]): Promise<RunningServer> {
  return startRawServer((socket) => {
    socket.once('data', () => {
      socket.write(head, 'latin1');
      for (const piece of body) socket.write(piece);
      socket.end();
    });
  });
}

const redirect = (location: string): Behaviour => ({ status: 302, location });

describe('odd answers of real servers', function () {
  this.timeout(30_000);
  const bench = useBench();
  const serve = (behaviour: Parameters<typeof startContentServer>[1]) =>
    bench.serve(startContentServer(bufferContent(BYTES), behaviour));

  for (const [what, head, body] of [
    [
      'a folded header',
      `HTTP/1.1 200 OK\r\nx-note: one\r\n two\r\ncontent-length: ${BYTES.length}\r\n\r\n`,
      undefined,
    ],
    ['lines that end by LF alone', `HTTP/1.0 200 OK\ncontent-length: ${BYTES.length}\n\n`, undefined],
    [
      'chunks with a length beside them',
      'HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n',
      [Buffer.from(`${BYTES.length.toString(16)}\r\n`), BYTES, Buffer.from('\r\n0\r\n\r\n')],
    ],
  ] as const)
    it(`are read although there is ${what}, which is said`, async () => {
      const server = await bench.serve(startHandMade(head, body));
      const { source, notices } = bench.open(server.url, {}, { pipelining: true });
      assert.ok((await collect(source.stream(0))).equals(BYTES));
      assert.equal(notices.length, 1);
      assert.match(notices[0]!, /^server breaks the rules of HTTP \(HPE_[A-Z_]+\): reading it leniently$/u);
    });

  it('are read although there are lines that end by LF alone at the last of three hops, each of which is asked once', async () => {
    const server = await bench.serve(startHandMade(`HTTP/1.0 200 OK\ncontent-length: ${BYTES.length}\n\n`));
    const hops = await bench.serve(
      startRedirectServer((path) => (path === '/3' ? `${server.url}/disk` : `/${Number(path.slice(1)) + 1}`)),
    );
    const { source, notices } = bench.open(`${hops.url}/1`, {}, { maxReconnects: 0 });
    assert.ok((await collect(source.stream(0))).equals(BYTES));
    assert.deepEqual(notices, ['server breaks the rules of HTTP (HPE_CR_EXPECTED): reading it leniently']);
    assert.equal(hops.requests().length, 3);
    assert.equal(server.connections(), 2);
  });

  it('are followed where the odd lines are those of a hop in between, within the ten', async () => {
    const target = await serve({});
    const odd = await bench.serve(startHandMade(`HTTP/1.1 302 Found\nlocation: ${target.url}/disk\n\n`, []));
    const hops = (last: number) =>
      bench.serve(
        startRedirectServer((path) =>
          path === `/${last}` ? `${odd.url}/odd` : `/${Number(path.slice(1)) + 1}`,
        ),
      );
    const { source } = bench.open(`${(await hops(9)).url}/1`, {}, { maxReconnects: 0 });
    await source.probe();
    const far = bench.open(`${(await hops(10)).url}/1`, {}, { maxReconnects: 0 });
    await fails(far.source.probe(), 'SourceNotFound', /more than 10 redirects$/u);
  });

  it('are given up where a hop goes on breaking the rules', async () => {
    const noise = await bench.serve(startHandMade('no HTTP at all\r\n\r\n', []));
    const hop = await bench.serve(startRedirectServer(() => noise.url));
    const { source } = bench.open(hop.url, {}, { maxReconnects: 0 });
    await fails(
      source.probe(),
      'SourceUnavailable',
      / from redirect target http:\S+: server breaks the rules of HTTP: [^()]+ \(HPE_/u,
    );
    assert.equal(hop.requests().length, 1);
  });

  for (const [what, length, words] of [
    ['twice', `content-length: ${BYTES.length}\r\ncontent-length: ${BYTES.length}`, 'Duplicate'],
    ['as no number', 'content-length: many', 'Invalid character in'],
  ] as const)
    it(`are given up for good, and in words, where they say their length ${what}, of a redirect's target too`, async () => {
      const server = await bench.serve(startHandMade(`HTTP/1.1 200 OK\r\n${length}\r\n\r\n`));
      const hop = await bench.serve(startRedirectServer(() => server.url));
      const message = new RegExp(
        `: server breaks the rules of HTTP: ${words} Content-Length \\(HPE_\\w+\\)$`,
        'u',
      );
      for (const { url } of [server, hop])
        await fails(bench.open(url).source.probe(), 'UnsupportedFormat', message);
      assert.equal(server.connections(), 2 * 2);
    });

  it('are read where one answer alone said its length twice', async () => {
    const good = `content-length: ${BYTES.length}\r\n`;
    let asked = 0;
    const server = await bench.serve(
      startRawServer((socket) => {
        socket.once('data', () => {
          socket.write(`HTTP/1.1 200 OK\r\n${good}${asked === 0 ? good : ''}\r\n`);
          socket.end(BYTES);
          asked += 1;
        });
      }),
    );
    assert.ok((await collect(bench.open(server.url).source.stream(0))).equals(BYTES));
  });

  it('are not taken leniently from a server that has said nothing odd', async () => {
    const server = await serve({});
    const { source, notices } = bench.open(server.url);
    await source.probe();
    assert.deepEqual(notices, []);
  });

  for (const coding of ['aws-chunked', 'aws-chunked, gzip', 'none', 'UTF-8', 'xz', 'zstd', 'gzip, identity'])
    it(`are read as they are stored under Content-Encoding: ${coding}`, async () => {
      const server = await serve({ contentEncoding: coding });
      const { source } = bench.open(server.url, {}, { pipelining: true });
      assert.ok((await collect(source.stream(0))).equals(BYTES));
      const target = Buffer.alloc(1000);
      await source.readInto(2_000_000, target);
      assert.ok(target.equals(BYTES.subarray(2_000_000, 2_001_000)));
    });

  for (const coding of ['br', 'deflate', 'aws-chunked, compress', 'x-unheard-of'])
    it(`are refused under Content-Encoding: ${coding}`, async () => {
      const server = await serve({ contentEncoding: coding });
      await fails(bench.open(server.url).source.probe(), 'UnsupportedFormat', /content encoding/u);
    });

  it('a password with a lone % is sent as it is, with every request', async () => {
    const behaviour = { ranges: true, basicAuth: { username: 'user', password: '100%' } };
    const server = await serve(behaviour);
    const { source } = bench.open(server.url.replace('//', '//user:100%@'));
    await source.readInto(2_000_000, Buffer.alloc(1000));
  });

  it('a server is trusted by its own certificate, and by that of an authority between', async () => {
    const authority = await createAuthority();
    const tls = await authority.issue(['localhost']);
    const server = await bench.serve(startContentServer(bufferContent(BYTES), {}, { tls }));
    await bench.open(server.url, { ca: tls.cert }).source.probe();
    const { cert: other } = await authority.issue(['localhost']);
    await fails(
      bench.open(server.url, { ca: other }).source.probe(),
      'SourceCertificateInvalid',
      /not valid/u,
    );
  });
});

describe('redirects of real servers', function () {
  this.timeout(30_000);
  const bench = useBench();

  for (const pipelining of [false, true])
    it(`lead anew when a signature has ended with 400${pipelining ? ', and are pipelined again' : ''}`, async () => {
      let current = 1;
      let served = 0;
      const server: RunningServer = await bench.serve(
        startContentServer(bufferContent(BYTES), (_, { path }) => {
          if (path === '/') return redirect(`/signed/${current}`);
          if (path !== `/signed/${current}`) return { status: 400 };
          served += 1;
          return {};
        }),
      );
      const { source } = bench.open(server.url, {}, { pipelining });
      await source.readInto(1000, Buffer.alloc(1000));
      current = 2;
      served = 0;
      for (let round = 0; round < 4; round += 1)
        await Promise.all(
          Array.from({ length: 50 }, (_, index) => source.readInto(index * 60_000, Buffer.alloc(1000))),
        );
      assert.equal(served, 200);
      // sockets of our own say nothing about the connection
      const own = server
        .requests()
        .slice(-50)
        .filter(({ headers }) => headers.connection === undefined);
      assert.equal(own.length, pipelining ? 50 : 0);
    });

  it('keep to their mirror when it fails for a moment: another one has another ETag', async () => {
    let down = false;
    const mirror = (etag: string) =>
      bench.serve(
        startContentServer(bufferContent(BYTES), () => {
          if (!down || etag !== '"A"') return { etag };
          down = false;
          return { status: 503 };
        }),
      );
    const mirrors = [await mirror('"A"'), await mirror('"B"')];
    let asked = 0;
    const redirector = await bench.serve(
      startServer((_request, response) => {
        response.writeHead(302, { location: `${mirrors[(asked += 1) % 2 === 1 ? 0 : 1]?.url}/` }).end();
      }),
    );
    const { source } = bench.open(redirector.url, {}, { backoffMs: 50 });
    await source.probe();
    down = true;
    const target = Buffer.alloc(1000);
    await source.readInto(2_000_000, target);
    assert.ok(target.equals(BYTES.subarray(2_000_000, 2_001_000)));
    assert.equal(asked, 1);
  });

  for (const [what, next] of [
    ['without a valid certificate', 'stranger'],
    ['without TLS', 'plain'],
  ] as const)
    it(`pass over a mirror ${what} once the transfer has run`, async () => {
      const authority = await createAuthority();
      const tls = await authority.issue(['localhost']);
      const mirror = (behaviour: (index: number) => Behaviour, own = tls) =>
        bench.serve(startContentServer(bufferContent(BYTES), behaviour, { tls: own }));
      const first = await mirror((index) => (index < 2 ? {} : { status: 403 }));
      const other = await mirror(() => ({}));
      const unproved = {
        stranger: (await mirror(() => ({}), await createSelfSigned(['localhost']))).url,
        plain: 'http://localhost:1',
      }[next];
      let ways = [first.url, unproved, other.url];
      let asked = 0;
      const origin = await bench.serve(
        startRedirectServer(() => `${ways[Math.min(asked++, ways.length - 1)]}/`, { tls }),
      );
      const policy = { allowed: ['127.0.0.0/8', '::1/128'], denied: [] };
      const settings = { maxReconnects: 1, policy };
      const { source, notices } = bench.open(origin.url, { ca: authority.ca }, settings);
      for (let at = 0; at < BYTES.length; at += 1_000_000) {
        const target = Buffer.alloc(Math.min(1_000_000, BYTES.length - at));
        await source.readInto(at, target);
        assert.ok(target.equals(BYTES.subarray(at, at + target.length)));
      }
      assert.ok(other.requests().length > 0);
      assert.match(notices.join('\n'), /^redirect target cannot prove who it is: asking for another one$/mu);

      [ways, asked] = [[unproved], 0];
      const later = bench.open(origin.url, { ca: authority.ca }, { ...settings, succeededBefore: true });
      await fails(later.source.probe(), 'SourceUnavailable', /certificate is not valid|from https to http/u);
      [ways, asked] = [[unproved, unproved, unproved, other.url], 0];
      const type = next === 'plain' ? 'SourceNotAllowed' : 'SourceCertificateInvalid';
      const fresh = bench.open(origin.url, { ca: authority.ca }, settings);
      await fails(fresh.source.probe(), type, /certificate is not valid|from https to http/u);
    });

  it('lead away from a mirror that stays away', async () => {
    const gone = await bench.serve(startContentServer(bufferContent(BYTES)));
    const other = await bench.serve(startContentServer(bufferContent(BYTES)));
    let first = true;
    const redirector = await bench.serve(
      startServer((_request, response) => {
        response.writeHead(302, { location: `${(first ? gone : other).url}/` }).end();
      }),
    );
    const { source } = bench.open(redirector.url, {}, { backoffMs: 10 });
    await source.probe();
    first = false;
    await gone.close();
    await source.readInto(2_000_000, Buffer.alloc(1000));
    assert.equal(other.requests().length, 1);
  });

  it('of a later attempt to a mirror that refuses are no final answer', async () => {
    const mirror = await bench.serve(startContentServer(bufferContent(BYTES), { status: 403 }));
    const redirector = await bench.serve(
      startContentServer(bufferContent(BYTES), () => redirect(`${mirror.url}/`)),
    );
    const options = { maxReconnects: 0 };
    const before = bench.open(redirector.url, {}, { ...options, succeededBefore: true });
    await fails(
      before.source.probe(),
      'SourceUnavailable',
      /from redirect target http:\/\/127\.0\.0\.1:\d+: 40\d /u,
    );
    await fails(bench.open(redirector.url, {}, options).source.probe(), 'SourceForbidden', /403/u);
  });

  it('are followed where a hop closes the connection that it has kept alive', async () => {
    const used = new Set<Socket>();
    const mirror = await bench.serve(
      startServer(({ socket, url }, response) => {
        if (used.has(socket)) return void socket.resetAndDestroy();
        used.add(socket);
        if (url === '/first') response.writeHead(302, { location: '/second', 'content-length': 0 }).end();
        else response.writeHead(200, { 'content-length': 5 }).end('bytes');
      }),
    );
    const origin = await bench.serve(startRedirectServer(() => `${mirror.url}/first`));
    const { source } = bench.open(origin.url, {}, { maxReconnects: 0 });
    assert.equal((await source.probe()).head.toString(), 'bytes');
    assert.deepEqual(
      mirror.requests().map(({ path }) => path),
      ['/first', '/second', '/second'],
    );
  });

  it('within the origin take its token along', async () => {
    const isAllowed = ({ headers }: IncomingMessage): boolean => headers.authorization === 'Bearer sesame';
    let refused = 0;
    const content = await bench.serve(
      startServer((request, response) => {
        if (!isAllowed(request)) return void ((refused += 1), response.writeHead(401).end());
        if (request.url === '/blob') return void response.writeHead(307, { location: '/real' }).end();
        const [, start = 0, last = 0] = /bytes=(\d+)-(\d+)/u.exec(request.headers.range ?? '') ?? [];
        const end = Math.min(Number(last) + 1, BYTES.length);
        response
          .writeHead(206, {
            etag: '"v1"',
            'content-range': `bytes ${start}-${end - 1}/${BYTES.length}`,
            'content-length': end - Number(start),
          })
          .end(BYTES.subarray(Number(start), end));
      }),
    );
    const url = new URL(`${content.url}/blob`);
    const entrance = () => Promise.resolve({ url, headers: { authorization: 'Bearer sesame' } });
    const { source } = bench.open(url.href, {}, { entrance, pipelining: true });
    await Promise.all(
      Array.from({ length: 20 }, (_, index) => source.readInto(index * 100_000, Buffer.alloc(1000))),
    );
    assert.equal(refused, 0);
    assert.equal(content.requests().filter(({ path }) => path === '/blob').length, 1);
  });
});
