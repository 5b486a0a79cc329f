import assert from 'node:assert/strict';
import { RangesLostError } from '../../../activities/image/source/types.js';
import { bufferContent, startContentServer, startServer } from '../../support/servers/index.js';
import type { Behaviour, SeenRequest } from '../../support/servers/index.js';
import { BYTES, collect, fails, useBench } from './open.js';

describe('ranges of an HTTP source', () => {
  const bench = useBench();
  const serve = (behaviour: Behaviour | ((index: number, request: SeenRequest) => Behaviour)) =>
    bench.serve(startContentServer(bufferContent(BYTES), behaviour));

  it('are read into place, on two connections that are kept', async () => {
    const server = await serve({});
    const { source } = bench.open(server.url);
    await source.probe();
    const target = Buffer.alloc(BYTES.length);
    const size = 100_003;
    const reads: Promise<void>[] = [];
    for (let at = 0; at < target.length; at += size) {
      reads.push(source.readInto(at, target.subarray(at, at + size)));
    }
    await Promise.all(reads);
    assert.ok(target.equals(BYTES));
    assert.ok(server.connections() <= 2, `${server.connections()} connections`);
    assert.equal(server.requests().length, reads.length + 1);
    for (const { headers } of server.requests().slice(1)) assert.equal(headers['if-range'], '"v1"');
  });

  it('reads nothing for an empty target', async () => {
    const server = await serve({});
    await bench.open(server.url).source.readInto(5, new Uint8Array(0));
    assert.equal(server.requests().length, 1);
  });

  it('go on where a connection was lost', async () => {
    const server = await serve((index) => (index === 0 ? {} : { dropAfter: 300_000 }));
    const { source, notices } = bench.open(server.url);
    const target = Buffer.alloc(1_000_000);
    await source.readInto(1_500_000, target);
    assert.ok(target.equals(BYTES.subarray(1_500_000, 2_500_000)));
    assert.ok(notices.length >= 3);
    assert.equal(source.bytesRead, 1_048_576 + 1_000_000);
  });

  it('survive a server that closes idle connections', async () => {
    const server = await serve({});
    const { source, notices } = bench.open(server.url);
    await source.probe();
    const target = Buffer.alloc(10);
    for (let round = 0; round < 5; round += 1) {
      server.dropConnections();
      await source.readInto(round, target);
      assert.ok(target.equals(BYTES.subarray(round, round + 10)));
    }
    assert.deepEqual(notices, []);
  });

  it('are lost when the server answers 200 for the same version', async () => {
    const server = await serve((index) => ({ ranges: index === 0 }));
    const { source } = bench.open(server.url);
    await assert.rejects(source.readInto(5, Buffer.alloc(100)), RangesLostError);
    assert.equal(server.requests().length, 2);
  });

  for (const [name, later, message] of [
    ['another ETag', { etag: '"v2"' }, /ETag was "v1", is "v2"$/u],
    ['no ETag', { etag: '' }, /ETag was "v1", is absent$/u],
    ['another total', { distort: 'other-total' }, new RegExp(`length was ${BYTES.length}, is`, 'u')],
  ] as const) {
    it(`are of the probe's version: ${name}`, async () => {
      const server = await serve((index) => (index === 0 ? {} : later));
      const target = Buffer.alloc(100);
      await fails(bench.open(server.url).source.readInto(5, target), 'SourceChanged', message);
      assert.ok(target.equals(Buffer.alloc(100)), 'no foreign byte');
    });
  }

  for (const distort of ['other-range', 'multipart', 'no-total'] as const) {
    it(`are exactly those that were asked for: ${distort}`, async () => {
      const server = await serve((index) => (index === 0 ? {} : { distort }));
      const target = Buffer.alloc(100);
      const { source } = bench.open(server.url, {}, { maxReconnects: 1 });
      await fails(
        source.readInto(5, target),
        'SourceUnavailable',
        /answered (206 without|bytes 6-105, asked for 5-104)/u,
      );
      assert.ok(target.equals(Buffer.alloc(100)), 'no foreign byte');
    });
  }

  it('are asked for on and on where a server gives less at once, without a pause or a word', async () => {
    const server = await serve((index) => (index === 0 ? {} : { mostAtOnce: 300_000 }));
    const { source, notices } = bench.open(server.url, {}, { maxReconnects: 0 });
    const target = Buffer.alloc(1_000_000);
    await source.readInto(1_500_000, target);
    assert.ok(target.equals(BYTES.subarray(1_500_000, 2_500_000)));
    assert.deepEqual(notices, []);
    assert.equal(server.requests().length, 1 + 4);
    assert.equal(server.connections(), 1);
  });

  it('are no longer than the answer says that they are', async () => {
    const server = await bench.serve(
      startServer((request, response, seen, index) => {
        const [, start = 0, last = 0] = (/(\d+)-(\d*)/u.exec(request.headers.range ?? '') ?? []).map(Number);
        const end = index === 0 ? last + 1 : start + 10;
        response.writeHead(206, { 'content-range': `bytes ${start}-${end - 1}/${BYTES.length}` });
        // in chunks, so that nothing else says where the body ends
        response.end(BYTES.subarray(start, index === 0 ? end : end + 1));
      }),
    );
    const { source } = bench.open(server.url, {}, { maxReconnects: 1 });
    const longer = /body of a range .* is longer$/u;
    await fails(source.readInto(5, Buffer.alloc(100)), 'SourceUnavailable', longer);
    await fails(collect(source.stream(2_000_000)), 'SourceUnavailable', longer);
  });

  it('are refused beyond a source that became shorter', async () => {
    let bytes = BYTES;
    const server = await bench.serve(startContentServer(() => bufferContent(bytes)));
    const { source } = bench.open(server.url);
    await source.probe();
    bytes = BYTES.subarray(0, 1000);
    await fails(source.readInto(2000, Buffer.alloc(5)), 'SourceChanged', /length was \d+, is 1000$/u);
  });
});
