import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { planImage } from '../../../activities/image/plan-image.js';
import { collect, fails } from '../source/open.js';
import { digestOf, imageOf, layerOf, type LayerFile } from './images.js';
import { startNodeRegistry } from './node-registry.js';
import { addressOf, assertDelivers, DISK, useBench } from './open.js';

const FILE: LayerFile = { name: 'disk/disk.img', content: DISK };
const MOTD: LayerFile = { name: 'etc/motd', content: Buffer.alloc(500_000, 'hello') };

describe('a checksum of the user for a container disk', () => {
  const bench = useBench();

  it('is that of the blob which holds the disk, by any algorithm', async () => {
    const layers = await Promise.all([layerOf([FILE]), layerOf([MOTD])]);
    const server = await bench.serve(startNodeRegistry({ 'team/disk:v1': imageOf(layers) }));
    for (const algorithm of ['md5', 'sha1', 'sha256', 'sha512']) {
      const hex = createHash(algorithm).update(layers[0].blob).digest('hex');
      const { source } = await bench.open(addressOf(server), { checksum: `${algorithm}:${hex}` });
      await assertDelivers(source);
    }
  });

  it('is not asked of the disk that is read out of the blob', async () => {
    const layer = await layerOf([FILE]);
    const server = await bench.serve(startNodeRegistry({ 'team/disk:v1': imageOf([layer]) }));
    for (const algorithm of ['md5', 'sha256']) {
      const checksum = `${algorithm}:${createHash(algorithm).update(layer.blob).digest('hex')}`;
      const { source } = await bench.open(addressOf(server), { checksum });
      using planned = await planImage(source, { checksum, scratch: false });
      assert.ok(DISK.equals(await collect(planned.root.stream(0))));
    }
  });

  it('of another algorithm than the digest is judged at the end', async () => {
    const server = await bench.serve(startNodeRegistry({ 'team/disk:v1': imageOf([await layerOf([FILE])]) }));
    const { source } = await bench.open(addressOf(server), { checksum: `md5:${'0'.repeat(32)}` });
    await source.probe();
    await fails(
      collect(source.stream(0)),
      'ChecksumMismatch',
      /^checksum mismatch of layer 1 .*expected md5:0+, calc/u,
    );
  });

  it('of the digest’s own algorithm is judged before a byte is delivered', async () => {
    const layer = await layerOf([FILE]);
    const server = await bench.serve(startNodeRegistry({ 'team/disk:v1': imageOf([layer]) }));
    const { source } = await bench.open(addressOf(server), { checksum: `sha256:${'0'.repeat(64)}` });
    await fails(
      source.probe(),
      'ChecksumMismatch',
      new RegExp(`expected sha256:0+, .* is ${digestOf(layer.blob)}$`, 'u'),
    );
  });

  it('must be one', async () => {
    await fails(
      bench.open('docker://a/b', { checksum: 'crc32:00' }),
      'InvalidDataVolume',
      /unsupported hash/u,
    );
  });
});
