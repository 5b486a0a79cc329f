import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { planSteadily } from '../../../activities/image/plan-image.js';
import { createRecordStore } from '../../../activities/image/resume-record.js';
import { convertInto } from '../support/convert-into.js';
import { refusal } from '../support/refused.js';
import { fails } from '../source/open.js';
import { digestOf, imageOf, layerOf, type Layer } from './images.js';
import { startNodeRegistry, type RegistryBehaviour } from './node-registry.js';
import { addressOf, DISK, useBench } from './open.js';

describe('a registry whose replicas have ETags of their own for the same blob', () => {
  const bench = useBench();
  const etag = (index: number): string => `"replica-${index}"`;
  let directory: string;
  const layers: Record<string, Layer> = {};
  before(async () => {
    for (const compression of ['none', 'gz'] as const)
      layers[compression] = await layerOf([{ name: 'disk/a', content: DISK }], compression);
  });
  beforeEach(() => (directory = mkdtempSync(join(tmpdir(), 'dvflow-replicas-'))));
  afterEach(() => rmSync(directory, { recursive: true }));

  const target = (): string => join(directory, 'disk.img');

  async function open(layer: Layer, behaviour: RegistryBehaviour = {}, labels = {}) {
    const images = { 'team/disk:v1': imageOf([layer], { labels }) };
    const server = await bench.serve(startNodeRegistry(images, { etag, ...behaviour }));
    return { server, source: (await bench.open(addressOf(server))).source };
  }

  for (const compression of ['none', 'gz'] as const)
    it(`is imported by the digest of the layer: ${compression}`, async () => {
      const { server, source } = await open(layers[compression]!);
      const said: string[] = [];
      await convertInto(source, target(), { onProgress: ({ message = '' }) => said.push(message) });
      assert.ok(readFileSync(target()).equals(DISK));
      assert.ok(said.some((message) => message.endsWith('now read in one answer')));
      const { changes, contradicted } = await createRecordStore(`${target()}.record`).load();
      assert.deepEqual({ changes, contradicted }, { changes: 1, contradicted: true });
      assert.ok(server.requests().some(({ headers }) => headers['if-range'] !== undefined));
      assert.equal(server.requests().at(-1)?.headers.range, undefined);
    });

  it('is inspected', async () => {
    const { source } = await open(layers['none']!);
    using planned = await planSteadily(source, { scratch: true });
    assert.deepEqual([planned.facts.format, planned.facts.virtualSize], ['raw', DISK.length]);
  });

  it('is ChecksumMismatch where the bytes are others as well, and none of them stay', async () => {
    const wanted = digestOf(layers['none']!.blob);
    const blob = (digest: string, bytes: Buffer): Buffer => {
      const served = Buffer.from(bytes);
      if (digest === wanted) served[2_000_000]! ^= 0xff;
      return served;
    };
    const { source } = await open(layers['none']!, { blob });
    const message = new RegExp(`^layer 1 of 1 of docker:\\S+: expected ${wanted}`, 'u');
    await assert.rejects(convertInto(source, target()), refusal('ChecksumMismatch', message, true));
    assert.equal(statSync(target()).size, 0);
  });

  it('has a configuration of more than one answer, which its digest proves', async () => {
    const { source } = await open(layers['none']!, {}, { note: 'x'.repeat(1_500_000) });
    assert.equal(await source.architecture(), 'amd64');
  });

  it('is SourceChanged where nothing else is known of the bytes: what is read of a layer in part', async () => {
    const { source } = await open(layers['none']!);
    await fails(source.probe(), 'SourceChanged', /ETag was "replica-\d+", is "replica-\d+"$/u);
  });
});
