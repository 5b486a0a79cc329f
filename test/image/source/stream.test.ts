import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  bufferContent,
  createAuthority,
  startContentServer,
  startProxyServer,
  startRedirectServer,
  startServer,
} from '../../support/servers/index.js';
import type { Behaviour, SeenRequest } from '../../support/servers/index.js';
import { BYTES, collect, fails, useBench } from './open.js';

const MODIFIED = 'Mon, 23 Nov 2026 10:00:00 GMT';

describe('stream of an HTTP source', () => {
  const bench = useBench();
  const serve = (behaviour: Behaviour | ((index: number, request: SeenRequest) => Behaviour)) =>
    bench.serve(startContentServer(bufferContent(BYTES), behaviour));

  it('begins anywhere', async () => {
    const server = await serve({});
    const { source } = bench.open(server.url);
    for (const start of [0, 1, 1_048_575, 1_048_576, 2_000_001, BYTES.length - 1, BYTES.length]) {
      assert.ok((await collect(source.stream(start))).equals(BYTES.subarray(start)), `from ${start}`);
    }
  });

  it('begins anywhere without ranges', async () => {
    const server = await serve({ ranges: false });
    for (const start of [1, 1_048_576, 2_000_001]) {
      const { source } = bench.open(server.url);
      assert.ok((await collect(source.stream(start))).equals(BYTES.subarray(start)), `from ${start}`);
    }
    assert.equal(server.requests().length, 3);
  });

  it('goes on at the next byte when the connection drops every 400 kB', async () => {
    const server = await serve((index) => (index === 0 ? {} : { dropAfter: 400_000 }));
    const { source, notices } = bench.open(server.url, {});
    assert.ok((await collect(source.stream(0))).equals(BYTES));
    assert.ok(notices.length >= 4, `${notices.length} notices`);
    assert.match(notices[0] ?? '', /^reconnecting: .*(reset|closed).*\(attempt 2\)$/u);
    assert.equal(source.bytesRead, BYTES.length, 'nothing is read twice');
    for (const { headers } of server.requests().slice(1)) assert.equal(headers['if-range'], '"v1"');
  });

  for (const pipelining of [true, false])
    it(`holds answers to the length alone where a digest proves the bytes, pipelining ${pipelining}`, async () => {
      const length = BYTES.length;
      const etags = await serve((index) => ({
        etag: `"${index}"`,
        lastModified: new Date(index * 1000).toUTCString(),
        ...(index === 1 ? { dropAfter: 400_000 } : {}),
      }));
      const { source } = bench.open(etags.url, {}, { pipelining, provedByDigest: true });
      assert.deepEqual((await source.probe()).validators, { length });
      assert.ok((await collect(source.stream(0))).equals(BYTES));
      assert.ok((await collect(source.inOneAnswer!().stream(0))).equals(BYTES));
      assert.ok(etags.requests().length > 3);
      for (const { headers } of etags.requests()) assert.equal(headers['if-range'], undefined);
      let bytes = BYTES;
      const shorter = await bench.serve(startContentServer(() => bufferContent(bytes)));
      const other = bench.open(shorter.url, {}, { pipelining, provedByDigest: true }).source;
      await other.probe();
      bytes = BYTES.subarray(0, length - 1);
      await fails(collect(other.stream(0)), 'SourceChanged', /length was \d+, is \d+$/u);
    });

  for (const pipelining of [true, false])
    for (const mostAtOnce of [300_000, 1_048_576, 1_500_000])
      it(`is read from a server that gives ${mostAtOnce} bytes at once, without a pause or a word, pipelining ${pipelining}`, async () => {
        const server = await serve((index) => (index === 0 ? {} : { mostAtOnce }));
        const { source, notices } = bench.open(server.url, {}, { pipelining, maxReconnects: 0 });
        assert.ok((await collect(source.stream(0))).equals(BYTES));
        assert.deepEqual(notices, []);
        assert.equal(source.bytesRead, BYTES.length);
        assert.ok(server.connections() <= 3, `${server.connections()} connections`);
      });

  it('goes on after bodies that end early in order', async () => {
    const server = await serve((index) => (index === 0 ? {} : { truncateAfter: 700_000 }));
    const { source } = bench.open(server.url);
    assert.ok((await collect(source.stream(0))).equals(BYTES));
  });

  it('without ranges reads again and drops what was delivered, if the validators are the same', async () => {
    const server = await serve((index) => ({
      ranges: false,
      ...(index === 0 ? { truncateAfter: 2_000_000 } : {}),
    }));
    const { source, notices } = bench.open(server.url);
    assert.ok((await collect(source.stream(0))).equals(BYTES));
    assert.match(notices.at(-1) ?? '', /^reading again from the start: 2000000 bytes are dropped$/u);
    assert.equal(source.bytesRead, BYTES.length + 2_000_000);
  });

  it('reads again from the start when a server loses its ranges', async () => {
    const server = await serve((index) => (index === 0 ? {} : { ranges: false }));
    const { source } = bench.open(server.url);
    assert.ok((await collect(source.stream(0))).equals(BYTES));
  });

  for (const [name, first, later] of [
    ['its ETag changes', {}, { etag: '"v2"' }],
    ['its ETag goes', {}, { etag: '' }],
    [
      'its Last-Modified changes',
      { etag: '', lastModified: MODIFIED },
      { etag: '', lastModified: 'Tue, 24 Nov 2026 10:00:00 GMT' },
    ],
    ['its total changes', {}, { distort: 'other-total' }],
  ] as const) {
    for (const ranges of [true, false]) {
      if (name === 'its total changes' && !ranges) continue;
      it(`is SourceChanged when ${name}, with${ranges ? '' : 'out'} ranges`, async () => {
        const server = await serve((index) =>
          index === 0 ? { ...first, ranges, truncateAfter: ranges ? 1e9 : 1_500_000 } : { ...later, ranges },
        );
        await fails(
          collect(bench.open(server.url).source.stream(0)),
          'SourceChanged',
          /source changed: (ETag|Last-Modified|length) was .*, is /u,
        );
      });
    }
  }

  for (const ranges of [true, false]) {
    it(`takes the same strong ETag for the same bytes, whatever their date, with${ranges ? '' : 'out'} ranges`, async () => {
      const server = await serve((index) => ({
        ranges,
        lastModified: new Date(Date.UTC(2026, 10, 23, 10, 0, index)).toUTCString(),
        ...(index === 0 && !ranges ? { truncateAfter: 1_500_000 } : {}),
      }));
      for (const pipelining of [true, false]) {
        const { source } = bench.open(server.url, {}, { pipelining });
        assert.ok((await collect(source.stream(0))).equals(BYTES));
      }
    });
  }

  it('is SourceChanged when only the date of a weak ETag changes', async () => {
    const server = await serve((index) => ({
      etag: 'W/"v1"',
      lastModified: new Date(Date.UTC(2026, 10, 23, 10, 0, index)).toUTCString(),
    }));
    await fails(collect(bench.open(server.url).source.stream(0)), 'SourceChanged', /Last-Modified was/u);
  });

  it('is SourceChanged when a source without validators has other first bytes', async () => {
    let bytes = BYTES;
    const server = await bench.serve(
      startContentServer(
        () => bufferContent(bytes),
        (index) => ({ etag: '', ranges: false, ...(index === 0 ? { truncateAfter: 1_500_000 } : {}) }),
      ),
    );
    const { source } = bench.open(server.url);
    await source.probe();
    bytes = Buffer.from(BYTES);
    bytes[100_000]! ^= 1;
    await fails(collect(source.stream(0)), 'SourceChanged', /bytes \d+-\d+ differ/u);
  });

  it('sends If-Range for strong ETags only', async () => {
    const server = await serve({ etag: 'W/"v1"' });
    const { source } = bench.open(server.url);
    assert.ok((await collect(source.stream(0))).equals(BYTES));
    assert.equal(server.requests()[1]?.headers.range, 'bytes=1048576-');
    assert.equal(server.requests()[1]?.headers['if-range'], undefined);
  });

  for (const distort of ['other-range', 'multipart', 'no-total'] as const) {
    it(`takes no byte of a later 206 with ${distort}`, async () => {
      const server = await serve((index) => (index === 0 ? {} : { distort }));
      const { source } = bench.open(server.url, {}, { maxReconnects: 2 });
      await fails(
        collect(source.stream(0)),
        'SourceUnavailable',
        /answered (206 without|bytes \d+-\d+, asked)/u,
      );
      assert.equal(server.requests().length, 4, 'the probe, one try and two more');
      assert.equal(source.bytesRead, 1_048_576);
    });
  }

  it('gives up after the reconnects are spent, and counts anew with each new byte', async () => {
    const server = await serve((index) =>
      index === 0 ? {} : index === 3 ? { truncateAfter: 10 } : { status: 503 },
    );
    const { source } = bench.open(server.url, {}, { maxReconnects: 3 });
    await fails(collect(source.stream(0)), 'SourceUnavailable', /: 503 Service Unavailable$/u);
    // probe; 503, 503, ten bytes; the reset counts as first failure: three more
    assert.equal(server.requests().length, 1 + 3 + 3);
  });

  it('ends at once on a status that is final', async () => {
    const server = await serve((index) => (index === 0 ? {} : { status: 404 }));
    await fails(collect(bench.open(server.url).source.stream(0)), 'SourceNotFound', /: 404 Not Found$/u);
    assert.equal(server.requests().length, 2);
  });

  it('waits as long as Retry-After says, and hands longer delays on', async () => {
    const short = await serve((index) => (index === 1 ? { status: 429, retryAfter: '0' } : {}));
    assert.ok((await collect(bench.open(short.url).source.stream(0))).equals(BYTES));
    const long = await serve((index) => (index === 0 ? {} : { status: 429, retryAfter: '120' }));
    const error = await fails(collect(bench.open(long.url).source.stream(0)), 'SourceUnavailable', /429/u);
    assert.equal((error as { nextRetryDelay?: unknown }).nextRetryDelay, 120_000);
    assert.equal(long.requests().length, 2);
  });

  for (const pipelining of [true, false])
    it(`waits up to five minutes once bytes were delivered, and ends the wait with a cancel, pipelining ${pipelining}`, async () => {
      const impatient = (retryAfter: string) =>
        serve((index) => (index < 3 ? { mostAtOnce: 1_100_000 } : { status: 429, retryAfter }));
      const read = async ({ source }: ReturnType<typeof bench.open>): Promise<void> => {
        for (let at = 0; at < BYTES.length; at += 1_000_000)
          await source.readInto(at, Buffer.alloc(Math.min(1_000_000, BYTES.length - at)));
      };
      const opened = bench.open((await impatient('300')).url, {}, { pipelining });
      const ended = read(opened).then(
        () => 'read',
        (error: unknown) => String(error),
      );
      assert.equal(await Promise.race([ended, sleep(1000, 'waits')]), 'waits');
      opened.abort.abort(new Error('cancelled'));
      assert.equal(await ended, 'Error: cancelled');
      const longer = bench.open((await impatient('301')).url, {}, { pipelining });
      await fails(read(longer), 'SourceUnavailable', /429/u);
    });

  it('ends its connection when the consumer stops', async () => {
    const server = await serve({ ranges: false });
    const { source } = bench.open(server.url);
    for await (const chunk of source.stream(0)) {
      assert.ok(chunk.length > 0);
      break;
    }
    assert.ok(server.bytesSent() <= BYTES.length);
    assert.ok(source.bytesRead < BYTES.length);
  });

  for (const way of ['http', 'https', 'a redirect', 'a proxy', 'a tunnel'] as const)
    it(`takes no reset for the end of a body without a length: ${way}`, async () => {
      const authority = await createAuthority();
      const isSecure = way === 'https' || way === 'a tunnel';
      let asked = 0;
      const server = await bench.serve(
        startServer(
          (_request, response) => {
            asked += 1;
            response.useChunkedEncodingByDefault = false;
            response.shouldKeepAlive = false;
            response.writeHead(200, { 'last-modified': MODIFIED });
            if (asked > 2) return void response.end(BYTES);
            response.write(BYTES.subarray(0, 1_500_000));
            setTimeout(() => (way === 'a tunnel' ? by : server).dropConnections(), 200);
          },
          isSecure ? { tls: await authority.issue(['localhost', 'images.test']) } : {},
        ),
      );
      const redirector = await bench.serve(startRedirectServer(() => `${server.url}/`));
      const by = await bench.serve(startProxyServer({ route: () => server.port }));
      const proxy = { 'a proxy': { http: server.url }, 'a tunnel': { https: by.url } }[String(way)];
      const named = `${isSecure ? 'https' : 'http'}://images.test/`;
      const straight = way === 'a redirect' ? redirector.url : server.url;
      const settings = { ca: authority.ca, ...(proxy ? { proxy } : {}) };
      const { source, notices } = bench.open(proxy ? named : straight, settings);
      assert.ok((await collect(source.stream(0))).equals(BYTES), 'all bytes, each of them once');
      assert.equal(asked, 3);
      assert.match(notices[0] ?? '', /^reconnecting: .*connection reset \(ECONNRESET\)/u);
    });
});
