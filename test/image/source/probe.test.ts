import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { bufferContent, startContentServer } from '../../support/servers/index.js';
import type { Behaviour } from '../../support/servers/index.js';
import { BYTES, collect, fails, useBench } from './open.js';

const MiB = 1024 * 1024;
const MODIFIED = 'Mon, 23 Nov 2026 10:00:00 GMT';

describe('probe of an HTTP source', () => {
  const bench = useBench();
  const serve = (behaviour: Behaviour, bytes = BYTES) =>
    bench.serve(startContentServer(bufferContent(bytes), behaviour));

  it('asks for the first MiB, as identity, with GET', async () => {
    const server = await serve({ lastModified: MODIFIED });
    const { source } = bench.open(`${server.url}/disk.img?signature=1`);
    const facts = await source.probe();
    assert.equal(facts.displayUrl, `${server.url}/disk.img`);
    assert.equal(facts.ranges, true);
    assert.deepEqual(facts.validators, { etag: '"v1"', lastModified: MODIFIED, length: BYTES.length });
    assert.ok(facts.head.equals(BYTES.subarray(0, MiB)));
    const [asked, ...more] = server.requests();
    assert.equal(more.length, 0);
    assert.equal(asked?.method, 'GET');
    assert.equal(asked.path, '/disk.img?signature=1');
    assert.equal(asked.headers.range, 'bytes=0-1048575');
    assert.equal(asked.headers['accept-encoding'], 'identity');
    assert.equal(asked.headers['user-agent'], 'dvflow');
    assert.equal(source.bytesRead, MiB);
  });

  it('takes a whole source that is shorter than the range, and asks no more', async () => {
    const bytes = BYTES.subarray(0, 1000);
    const server = await serve({}, bytes);
    const { source } = bench.open(server.url);
    const facts = await source.probe();
    assert.equal(facts.ranges, true);
    assert.ok(facts.head.equals(bytes));
    assert.ok((await collect(source.stream(0))).equals(bytes));
    assert.ok((await collect(source.stream(990))).equals(bytes.subarray(990)));
    assert.equal(server.requests().length, 1);
  });

  for (const ranges of [true, false]) {
    it(`knows an empty source ${ranges ? 'by its 416' : 'without ranges'}`, async () => {
      const server = await serve({ ranges }, Buffer.alloc(0));
      const { source } = bench.open(server.url);
      const facts = await source.probe();
      assert.equal(facts.validators.length, 0);
      assert.equal(facts.head.length, 0);
      assert.equal((await collect(source.stream(0))).length, 0);
      assert.equal(server.requests().length, 1);
    });
  }

  it('without ranges keeps the answer for the stream, so that nothing is read twice', async () => {
    const server = await serve({ ranges: false, head: false });
    const { source } = bench.open(server.url);
    const facts = await source.probe();
    assert.equal(facts.ranges, false);
    assert.equal(facts.validators.length, BYTES.length);
    assert.ok(facts.head.equals(BYTES.subarray(0, MiB)));
    assert.ok((await collect(source.stream(0))).equals(BYTES));
    assert.equal(server.requests().length, 1);
    assert.equal(source.bytesRead, BYTES.length);
  });

  it('reads a body of unknown length to its end', async () => {
    const server = await serve({ ranges: false, chunked: true });
    const { source } = bench.open(server.url);
    assert.equal((await source.probe()).validators.length, undefined);
    assert.ok((await collect(source.stream(0))).equals(BYTES));
  });

  it('knows the length of a short body that does not say it', async () => {
    const server = await serve({ ranges: false, chunked: true }, BYTES.subarray(0, 5000));
    assert.equal((await bench.open(server.url).source.probe()).validators.length, 5000);
  });

  for (const distort of ['other-range', 'no-total', 'multipart'] as const) {
    it(`takes a server as one without ranges when its 206 has ${distort}`, async () => {
      const server = await bench.serve(
        startContentServer(bufferContent(BYTES), (_index, { headers }) => (headers.range ? { distort } : {})),
      );
      const { source } = bench.open(server.url);
      assert.equal((await source.probe()).ranges, false);
      assert.equal(server.requests()[1]?.headers.range, undefined);
      assert.ok((await collect(source.stream(0))).equals(BYTES));
    });
  }

  for (const status of [400, 416, 501]) {
    it(`takes a server as one without ranges when it answers ${status} to one`, async () => {
      const server = await bench.serve(
        startContentServer(bufferContent(BYTES), (_index, { headers }) => (headers.range ? { status } : {})),
      );
      const { source } = bench.open(server.url);
      assert.equal((await source.probe()).ranges, false);
      assert.ok((await collect(source.stream(0))).equals(BYTES));
      assert.deepEqual(
        server.requests().map(({ headers }) => headers.range),
        ['bytes=0-1048575', undefined],
      );
    });
  }

  it('fails with what the server says to a request without a range, and asks none for a 403', async () => {
    const bad = await serve({ status: 400 });
    await fails(bench.open(bad.url).source.probe(), 'SourceForbidden', /: 400 Bad Request$/u);
    assert.equal(bad.requests().length, 2);
    const forbidden = await serve({ status: 403 });
    await fails(bench.open(forbidden.url).source.probe(), 'SourceForbidden', /: 403 Forbidden$/u);
    assert.equal(forbidden.requests().length, 1);
  });

  it('passes on gzip that it did not ask for, and refuses codings that look like a disk', async () => {
    const packed = gzipSync(BYTES.subarray(0, 70_000));
    const gzip = await serve({ ranges: false, contentEncoding: 'gzip' }, packed);
    assert.ok((await collect(bench.open(gzip.url).source.stream(0))).equals(packed));
    const brotli = await serve({ contentEncoding: 'br' }, packed);
    await fails(bench.open(brotli.url).source.probe(), 'UnsupportedFormat', /content encoding br/u);
  });

  it('hands on an HTML page with 200 as it is', async () => {
    const page = Buffer.from('<!DOCTYPE html><html></html>');
    const server = await serve({ ranges: false, contentType: 'text/html' }, page);
    assert.ok((await bench.open(server.url).source.probe()).head.equals(page));
  });

  it('is asked once, however often it is called, and again after a failure', async () => {
    const server = await bench.serve(
      startContentServer(bufferContent(BYTES), (index) => (index === 0 ? { status: 503 } : {})),
    );
    const { source } = bench.open(server.url, {}, { maxReconnects: 0 });
    await fails(source.probe(), 'SourceUnavailable', /: 503 Service Unavailable$/u);
    await Promise.all([source.probe(), source.probe(), source.readInto(5, Buffer.alloc(3))]);
    assert.equal(server.requests().filter(({ headers }) => headers.range === 'bytes=0-1048575').length, 2);
  });

  it('is tried again like every other request', async () => {
    const server = await bench.serve(
      startContentServer(bufferContent(BYTES), (index) => (index < 2 ? { status: 503 } : {})),
    );
    const { source, notices } = bench.open(server.url);
    assert.equal((await source.probe()).validators.length, BYTES.length);
    assert.deepEqual(notices, [
      'reconnecting: 503 Service Unavailable (attempt 2)',
      'reconnecting: 503 Service Unavailable (attempt 3)',
    ]);
  });

  it('compares with the version of an earlier attempt', async () => {
    const server = await serve({});
    const same = { etag: '"v1"', length: BYTES.length };
    await bench.open(server.url, {}, { expected: same }).source.probe();
    await fails(
      bench.open(server.url, {}, { expected: { ...same, etag: '"v0"' } }).source.probe(),
      'SourceChanged',
      /source changed: ETag was "v0", is "v1"$/u,
    );
    await fails(
      bench.open(server.url, {}, { expected: { ...same, length: 7 } }).source.probe(),
      'SourceChanged',
      new RegExp(`length was 7, is ${BYTES.length}$`, 'u'),
    );
  });

  it('completes the first MiB over connections that drop every 300 kB', async () => {
    const server = await serve({ dropAfter: 300_000 });
    const { source } = bench.open(server.url);
    assert.ok((await source.probe()).head.equals(BYTES.subarray(0, MiB)));
    assert.ok((await collect(source.stream(0))).equals(BYTES));
    assert.equal(source.bytesRead, BYTES.length);
  });

  it('fails when the body is shorter than it says', async () => {
    const server = await serve({ ranges: false, truncateAfter: 5000 });
    await fails(bench.open(server.url).source.probe(), 'SourceUnavailable', /reset|closed|ended/u);
  });
});
