import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { parseConfig } from '../../../activities/image/registry/image-config.js';
import { collect, fails } from '../source/open.js';
import { imageOf, layerOf } from './images.js';
import { startNodeRegistry } from './node-registry.js';
import { addressOf, assertDelivers, DISK, useBench } from './open.js';

describe('a disk that is wrapped once more', () => {
  const bench = useBench();
  const magic: Readonly<Record<string, Buffer>> = {
    gzip: Buffer.from(gzipSync(DISK)),
    xz: Buffer.concat([Buffer.from('fd377a585a00', 'hex'), DISK]),
    zstd: Buffer.concat([Buffer.from('28b52ffd', 'hex'), DISK]),
    zip: Buffer.concat([Buffer.from('PK\x03\x04', 'latin1'), DISK]),
    tar: Buffer.concat([Buffer.alloc(0x101), Buffer.from('ustar'), DISK]),
  };
  for (const [name, content] of Object.entries(magic))
    it(`as ${name} is refused before a byte is delivered`, async () => {
      const image = imageOf([await layerOf([{ name: 'disk/a', content }])]);
      const server = await bench.serve(startNodeRegistry({ 'team/disk:v1': image }));
      const { source } = await bench.open(addressOf(server));
      const message = new RegExp(`^the disk in container image docker:\\S+ is ${name}: `, 'u');
      await fails(source.probe(), 'UnsupportedFormat', message);
      await fails(collect(source.stream(0)), 'UnsupportedFormat', message);
    });
});

describe('labels of an image', () => {
  const bench = useBench();
  const labelsOf = (...env: string[]) =>
    parseConfig(Buffer.from(JSON.stringify({ config: { Env: env } })), 'image');

  it('are its KUBEVIRT_IO_ variables, by CDI’s rule', () => {
    assert.deepEqual(
      labelsOf(
        'PATH=/bin',
        'INSTANCETYPE_KUBEVIRT_IO_DEFAULT_INSTANCETYPE=u1.small',
        'INSTANCETYPE_KUBEVIRT_IO_DEFAULT_PREFERENCE=fedora',
        'KUBEVIRT_IO_TEST=',
        'A_B_KUBEVIRT_IO_C=d',
        'NOTHING',
      ),
      {
        imageLabels: {},
        labels: {
          'instancetype.kubevirt.io/default-instancetype': 'u1.small',
          'instancetype.kubevirt.io/default-preference': 'fedora',
          'kubevirt.io/test': '',
          'a.b.kubevirt.io/c': 'd',
        },
        invalidLabels: 0,
      },
    );
  });

  for (const variable of [
    'KUBEVIRT_IO_=x',
    'KUBEVIRT_IO_A=b c',
    `KUBEVIRT_IO_A=${'x'.repeat(64)}`,
    '-_KUBEVIRT_IO_A=b',
    'KUBEVIRT_IO_A=b\nc',
    `KUBEVIRT_IO_${'A'.repeat(64)}=x`,
  ])
    it(`are not made of ${JSON.stringify(variable.slice(0, 30))}`, () => {
      assert.deepEqual(labelsOf(variable), { imageLabels: {}, labels: {}, invalidLabels: 1 });
    });

  it('are a hundred at most', () => {
    const { labels, invalidLabels } = labelsOf(
      ...Array.from({ length: 150 }, (_, index) => `KUBEVIRT_IO_A${index}=x`),
    );
    assert.deepEqual([Object.keys(labels).length, invalidLabels], [100, 50]);
  });

  it('are known without a byte of a layer; what is left out is said', async () => {
    const layer = await layerOf([{ name: 'disk/a', content: DISK }]);
    const image = imageOf([layer], { env: ['KUBEVIRT_IO_A=b', 'KUBEVIRT_IO_B=/'] });
    const server = await bench.serve(startNodeRegistry({ 'team/disk:v1': image }));
    const { source, notices } = await bench.open(addressOf(server));
    assert.deepEqual(await source.labels(), { 'kubevirt.io/a': 'b' });
    assert.deepEqual(source.containers, ['oci']);
    assert.ok(server.bytesSent() < layer.blob.length);
    await assertDelivers(source);
    assert.deepEqual(notices, [
      `registry 127.0.0.1:${server.port} does not speak TLS: it is asked by plain HTTP`,
      '1 KUBEVIRT_IO_ variables of the image are no valid labels: left out',
    ]);
  });
});
