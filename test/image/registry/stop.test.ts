import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { bufferContent, startContentServer, type Behaviour } from '../../support/servers/index.js';
import { collect } from '../source/open.js';
import { digestOf, imageOf, layerOf } from './images.js';
import { startNodeRegistry } from './node-registry.js';
import { addressOf, useBench } from './open.js';

const MiB = 1024 * 1024;

describe('cancels and back-pressure of a registry source', () => {
  const bench = useBench();
  const disk = randomBytes(48 * MiB);
  // what is random may begin like a gzip
  disk.fill(0, 0, 512);

  /** A layer on a server of its own, which behaves like this from its second request on. */
  async function open(compression: 'none' | 'gz' | 'zst', behaviour: Behaviour) {
    const { blob, tar, mediaType } = await layerOf([{ name: 'disk/a', content: disk }], compression);
    const cdn = await bench.serve(
      startContentServer(bufferContent(blob), (index) => (index === 0 ? {} : behaviour)),
    );
    const server = await bench.serve(
      startNodeRegistry(
        { 'team/disk:v1': imageOf([{ blob, tar, mediaType }]) },
        { redirect: (digest) => (digest === digestOf(blob) ? `${cdn.url}/blob` : undefined) },
      ),
    );
    return { cdn, ...(await bench.open(addressOf(server))) };
  }

  for (const compression of ['none', 'gz', 'zst'] as const) {
    it(`a cancel ends a stream in the middle with its reason (${compression})`, async () => {
      const { source, abort } = await open(compression, { stallAfter: 8 * MiB });
      await source.probe();
      const reading = collect(source.stream(0));
      while (source.bytesRead < 9 * MiB) await sleep(5);
      const reason = new Error('cancelled by the test');
      abort.abort(reason);
      await assert.rejects(reading, (error) => error === reason);
    });

    it(`nothing is read far ahead of a slow consumer (${compression})`, async () => {
      const { source } = await open(compression, {});
      let got = 0;
      for await (const chunk of source.stream(0)) {
        got += chunk.length;
        await sleep(20);
        if (got > 3 * MiB) break;
      }
      // what decoders have ahead of their reader is bounded, and less than what there is
      assert.ok(source.bytesRead < 32 * MiB, `${source.bytesRead} bytes read for ${got}`);
    });

    it(`a consumer that stops early ends the connection (${compression})`, async () => {
      const { source, cdn } = await open(compression, { stallAfter: 40 * MiB });
      for await (const chunk of source.stream(0)) if (chunk.length > 0) break;
      const sent = cdn.bytesSent();
      await sleep(300);
      assert.ok(
        cdn.bytesSent() < 40 * MiB && cdn.bytesSent() - sent < 4 * MiB,
        `${sent}, ${cdn.bytesSent()}`,
      );
    });
  }

  it('close ends a probe without answer', async () => {
    const server = await bench.serve(startNodeRegistry({}, { before: () => true }));
    const { source } = await bench.open(addressOf(server));
    const probing = source.probe();
    while (server.requests().length === 0) await sleep(5);
    source.close();
    await assert.rejects(probing, /source is closed/u);
  });
});
