import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  bufferContent,
  sparseContent,
  startContentServer,
  startEndlessHeaderServer,
  startSilentServer,
} from '../../support/servers/index.js';
import { BYTES, collect, fails, useBench } from './open.js';

const MiB = 1024 * 1024;

describe('stalls, cancels and back-pressure of an HTTP source', () => {
  const bench = useBench();
  const REASON = new Error('cancelled by the test');

  it('a server that never answers is SourceUnavailable after the stall limit', async () => {
    const server = await bench.serve(startSilentServer());
    const { source } = bench.open(server.url, {}, { stallMs: 50 });
    await fails(source.probe(), 'SourceUnavailable', /no answer for 50 ms$/u);
  });

  it('so is one whose headers never end', async () => {
    const server = await bench.serve(startEndlessHeaderServer());
    const { source } = bench.open(server.url, {}, { stallMs: 100 });
    await fails(source.probe(), 'SourceUnavailable', /no answer for 100 ms$/u);
  });

  it('a body that stalls is fetched on by another connection', async () => {
    const server = await bench.serve(
      startContentServer(bufferContent(BYTES), (index) => (index === 1 ? { stallAfter: 500_000 } : {})),
    );
    const { source, notices } = bench.open(server.url, {}, { stallMs: 100 });
    assert.ok((await collect(source.stream(0))).equals(BYTES));
    assert.match(notices.join('\n'), /^reconnecting: no byte for 100 ms \(attempt 2\)$/u);
    assert.equal(source.bytesRead, BYTES.length);
  });

  it('a slow consumer is no stall, and nothing is read ahead for it', async () => {
    const server = await bench.serve(startContentServer(sparseContent({ size: 4096 * MiB })));
    const { source, notices } = bench.open(server.url, {}, { stallMs: 200 });
    let chunks = 0;
    for await (const chunk of source.stream(2 * MiB)) {
      assert.ok(chunk.length > 0);
      await sleep(400);
      if (++chunks === 3) break;
    }
    assert.doesNotMatch(notices.join('\n'), /no byte/u);
    assert.ok(source.bytesRead < 2 * MiB, `${source.bytesRead} bytes read`);
    assert.ok(server.bytesSent() < 64 * MiB, `${server.bytesSent()} bytes sent`);
  });

  it('a cancel ends a request without answer with the reason', async () => {
    const server = await bench.serve(startSilentServer());
    const { source, abort } = bench.open(server.url);
    const probing = source.probe();
    while (server.requests().length === 0) await sleep(5);
    abort.abort(REASON);
    await assert.rejects(probing, (error) => error === REASON);
    await assert.rejects(source.probe(), (error) => error === REASON);
    assert.equal(server.requests().length, 1);
  });

  for (const behaviour of ['stream', 'stream without ranges', 'readInto'] as const) {
    it(`a cancel ends ${behaviour} in the middle of a body`, async () => {
      const server = await bench.serve(
        startContentServer(bufferContent(BYTES), {
          stallAfter: 1_200_000,
          ranges: behaviour !== 'stream without ranges',
        }),
      );
      const { source, abort } = bench.open(server.url);
      await source.probe();
      const reading =
        behaviour === 'readInto'
          ? source.readInto(0, Buffer.alloc(2 * MiB))
          : collect(source.stream(0)).then(() => undefined);
      while (source.bytesRead < 1_200_000) await sleep(5);
      abort.abort(REASON);
      await assert.rejects(reading, (error) => error === REASON);
    });
  }

  it('a cancel ends the pause before a reconnect, and reads that wait for a connection', async () => {
    const server = await bench.serve(
      startContentServer(bufferContent(BYTES), (index) => (index === 0 ? {} : { status: 503 })),
    );
    const { source, abort, notices } = bench.open(server.url, {}, { backoffMs: 30_000 });
    await source.probe();
    const reads = [1, 2, 3, 4].map((start) => source.readInto(start, Buffer.alloc(10)));
    const results = Promise.allSettled(reads);
    while (notices.length < 2) await sleep(5);
    abort.abort(REASON);
    for (const result of await results) {
      assert.equal(result.status, 'rejected');
      assert.equal(result.reason, REASON);
    }
    assert.equal(server.requests().length, 3);
  });

  it('a cancel before the start sends nothing', async () => {
    const server = await bench.serve(startContentServer(bufferContent(BYTES)));
    const { source, abort } = bench.open(server.url);
    abort.abort(REASON);
    await assert.rejects(source.probe(), (error) => error === REASON);
    await assert.rejects(collect(source.stream(0)), (error) => error === REASON);
    await assert.rejects(source.readInto(0, Buffer.alloc(5)), (error) => error === REASON);
    assert.equal(server.connections(), 0);
  });

  it('close ends everything that runs', async () => {
    const server = await bench.serve(startSilentServer());
    const { source } = bench.open(server.url);
    const probing = source.probe();
    while (server.requests().length === 0) await sleep(5);
    source.close();
    await assert.rejects(probing, /source is closed/u);
  });
});
