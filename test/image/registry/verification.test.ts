import assert from 'node:assert/strict';
import { bufferContent, startContentServer } from '../../support/servers/index.js';
import { collect, fails } from '../source/open.js';
import { digestOf, documentOf, imageOf, indexOf, layerOf, type Image, type LayerFile } from './images.js';
import { startNodeRegistry, type RegistryBehaviour } from './node-registry.js';
import { addressOf, assertDelivers, DISK, useBench } from './open.js';

const FILE: LayerFile = { name: 'disk/disk.img', content: DISK };
const MOTD: LayerFile = { name: 'etc/motd', content: Buffer.alloc(500_000, 'hello') };

describe('what a registry serves is held to its digests', () => {
  const bench = useBench();

  async function open(image: Image, behaviour: RegistryBehaviour = {}, name?: string) {
    const server = await bench.serve(startNodeRegistry({ 'team/disk:v1': image }, behaviour));
    return (await bench.open(addressOf(server, name))).source;
  }

  /** Changes one byte of a blob. */
  const corrupt = (wanted: string, at: (bytes: Buffer) => number): RegistryBehaviour => ({
    blob(digest, bytes) {
      if (digest !== wanted) return bytes;
      const changed = Buffer.from(bytes);
      const where = at(bytes);
      changed[where] = (changed[where] ?? 0) ^ 0xff;
      return changed;
    },
  });

  for (const compression of ['none', 'gz', 'zst'] as const)
    for (const [where, at] of [
      ['in the disk', (bytes: Buffer) => bytes.length >> 1],
      ['behind the disk', (bytes: Buffer) => bytes.length - 1],
    ] as const)
      it(`a byte changed ${where}, ${compression}: ChecksumMismatch before the stream ends`, async () => {
        const layer = await layerOf([FILE, MOTD], compression);
        const digest = digestOf(layer.blob);
        const source = await open(imageOf([layer]), corrupt(digest, at));
        await source.probe();
        await fails(
          collect(source.stream(0)),
          'ChecksumMismatch',
          new RegExp(
            `^layer 1 of 1 of docker:\\S+: expected ${digest}, calculated sha256:[0-9a-f]{64}$`,
            'u',
          ),
        );
      });

  it('a byte changed in a layer above the disk: ChecksumMismatch before the first byte', async () => {
    const layers = await Promise.all([layerOf([FILE]), layerOf([MOTD], 'none')]);
    const digest = digestOf(layers[1].blob);
    const source = await open(
      imageOf(layers),
      corrupt(digest, () => 100_000),
    );
    await fails(source.probe(), 'ChecksumMismatch', new RegExp(`^layer 2 of 2 .* expected ${digest}`, 'u'));
  });

  it('a manifest of schema 1, whose digest is of its payload alone, is UnsupportedFormat by its digest too', async () => {
    const digest = digestOf(Buffer.from('payload'));
    const server = await bench.serve(
      startNodeRegistry(
        {},
        {
          before({ url }, response) {
            if (!url?.endsWith(`/manifests/${digest}`)) return false;
            response.setHeader('content-type', 'application/vnd.docker.distribution.manifest.v1+prettyjws');
            response.end('{"schemaVersion":1,"fsLayers":[],"signatures":[]}');
          },
        },
      ),
    );
    const { source } = await bench.open(addressOf(server, `team/disk@${digest}`));
    await fails(source.probe(), 'UnsupportedFormat', /is a Docker manifest of schema 1/u);
  });

  it('a header damaged by the registry is its fault, not that of the image', async () => {
    const layer = await layerOf([FILE], 'none');
    const digest = digestOf(layer.blob);
    const source = await open(
      imageOf([layer]),
      corrupt(digest, () => 150),
    );
    await fails(source.probe(), 'ChecksumMismatch', new RegExp(digest, 'u'));
  });

  it('a header damaged by whoever made the image is ImageInvalid', async () => {
    const layer = await layerOf([FILE], 'none');
    layer.blob[150] = 0xff;
    await fails((await open(imageOf([layer]))).probe(), 'ImageInvalid', /checksum/u);
  });

  for (const compression of ['none', 'gz', 'zst'] as const)
    it(`a shorter blob, ${compression}: ChecksumMismatch with both sizes`, async () => {
      const layer = await layerOf([FILE], compression);
      const size = layer.blob.length;
      const source = await open(imageOf([layer]), {
        blob: (_, bytes) => bytes.subarray(0, bytes.length - 5000),
      });
      // the configuration is shorter than that: it is served as it is
      const whole = await open(imageOf([layer]), {
        blob: (digest, bytes) =>
          digest === digestOf(layer.blob) ? bytes.subarray(0, bytes.length - 700_000) : bytes,
      });
      await fails(source.probe(), 'ChecksumMismatch', /^configuration of/u);
      await fails(
        collect(whole.stream(0)),
        'ChecksumMismatch',
        new RegExp(`has ${size} bytes, ${size - 700_000} were served$`, 'u'),
      );
    });

  it('a longer blob is refused at the first byte too many', async () => {
    const layer = await layerOf([FILE]);
    const source = await open(imageOf([layer]), {
      blob: (digest, bytes) =>
        digest === digestOf(layer.blob) ? Buffer.concat([bytes, Buffer.alloc(100_000_000)]) : bytes,
    });
    await fails(collect(source.stream(0)), 'ChecksumMismatch', /bytes, more were served$/u);
    // what the sockets and the buffers between had taken in by then, of the 100 MB that are served
    assert.ok(source.bytesRead < layer.blob.length + 32_000_000, `${source.bytesRead} bytes`);
  });

  it('what follows the end marker of the tar belongs to the blob', async () => {
    const layer = await layerOf([FILE], 'none');
    const blob = Buffer.concat([layer.blob, Buffer.alloc(3_000_000, 'tail')]);
    const source = await open(imageOf([{ ...layer, blob }]));
    await assertDelivers(source);
    assert.ok(source.bytesRead > blob.length);
    const damaged = await open(
      imageOf([{ ...layer, blob }]),
      corrupt(digestOf(blob), (bytes) => bytes.length - 1),
    );
    await fails(collect(damaged.stream(0)), 'ChecksumMismatch', /^layer 1 of 1/u);
  });

  it('a configuration with another digest, or longer than its descriptor says', async () => {
    const layer = await layerOf([FILE]);
    const other = (change: (bytes: Buffer) => Buffer): RegistryBehaviour => ({
      blob: (digest, bytes) => (digest === digestOf(layer.blob) ? bytes : change(bytes)),
    });
    const changed = await open(
      imageOf([layer]),
      other((bytes) => Buffer.from(bytes.toString().replace('amd64', 'arm64'))),
    );
    await fails(changed.labels(), 'ChecksumMismatch', /^configuration of \S+: expected sha256/u);
    const longer = await open(
      imageOf([layer]),
      other((bytes) => Buffer.concat([bytes, Buffer.from('\n')])),
    );
    await fails(longer.labels(), 'ChecksumMismatch', /bytes, more were served$/u);
  });

  it('a manifest that is asked for by digest, and each one that an index names', async () => {
    const image = imageOf([await layerOf([FILE])]);
    await assertDelivers(await open(image, {}, `team/disk@${image.digest}`));
    await assertDelivers(await open(image, {}, `team/disk:gone@${image.digest}`));
    const wrong = await open(
      { ...image, digest: digestOf(Buffer.from('x')) },
      { announced: '' },
      `team/disk@${digestOf(Buffer.from('x'))}`,
    );
    await fails(wrong.probe(), 'ChecksumMismatch', new RegExp(`calculated ${image.digest}`, 'u'));
    const index = indexOf([{ ...image, digest: digestOf(Buffer.from('y')) }]);
    await fails((await open(index, { announced: '' })).probe(), 'ChecksumMismatch', /^manifest of docker/u);
  });

  it('a manifest that the registry announces under another digest', async () => {
    const image = imageOf([await layerOf([FILE])]);
    const source = await open(image, { announced: digestOf(Buffer.from('x')) });
    await fails(source.probe(), 'ChecksumMismatch', /as the registry announced it: expected/u);
    await assertDelivers(await open(image, { announced: 'md5:abc' }));
  });

  it('another layer than an earlier attempt read is SourceChanged', async () => {
    const layer = await layerOf([FILE]);
    const server = await bench.serve(startNodeRegistry({ 'team/disk:v1': imageOf([layer]) }));
    const expected = { etag: `"${digestOf(layer.blob)}"`, length: DISK.length };
    await assertDelivers((await bench.open(addressOf(server), {}, { expected })).source);
    const { source } = await bench.open(
      addressOf(server),
      {},
      { expected: { ...expected, etag: '"sha256:0"' } },
    );
    await fails(source.probe(), 'SourceChanged', /ETag was "sha256:0", is "sha256/u);
  });

  it('a lost connection is taken up where it was lost', async () => {
    const layer = await layerOf([FILE], 'none');
    const cdn = await bench.serve(
      startContentServer(bufferContent(layer.blob), (index) => (index === 1 ? { dropAfter: 1_500_000 } : {})),
    );
    const server = await bench.serve(
      startNodeRegistry(
        { 'team/disk:v1': imageOf([layer]) },
        { redirect: (digest) => (digest === digestOf(layer.blob) ? `${cdn.url}/blob` : undefined) },
      ),
    );
    const { source, notices } = await bench.open(addressOf(server));
    await assertDelivers(source);
    assert.match(notices.join('\n'), /^reconnecting: connection reset/mu);
  });

  for (const [what, image, type, message] of [
    [
      'schema 1',
      documentOf(
        { schemaVersion: 1, fsLayers: [] },
        'application/vnd.docker.distribution.manifest.v1+prettyjws',
      ),
      'UnsupportedFormat',
      /is a Docker manifest of schema 1/u,
    ],
    [
      'schema 1 under a plain type',
      documentOf({ schemaVersion: 1, fsLayers: [] }, 'application/json'),
      'UnsupportedFormat',
      /is a Docker manifest of schema 1/u,
    ],
    [
      'no JSON',
      documentOf('<html>SECRET-BODY-OF-AN-ERROR-PAGE', 'text/html'),
      'ImageInvalid',
      /is no JSON object$/u,
    ],
    [
      'something else',
      documentOf({ a: 1 }, 'application/json'),
      'UnsupportedFormat',
      /is neither an image nor an index of images$/u,
    ],
    [
      'an image and an index',
      documentOf({ manifests: [], layers: [] }, 'application/json'),
      'ImageInvalid',
      /both an image and an index$/u,
    ],
    [
      'over 4 MiB',
      documentOf(`{"a":"${'a'.repeat(5_000_000)}"}`, 'application/json'),
      'ImageInvalid',
      /answer is longer than 4194304 bytes$/u,
    ],
  ] as const)
    it(`a manifest that is ${what} is refused`, async () => {
      await fails((await open(image)).probe(), type, message);
    });
});
