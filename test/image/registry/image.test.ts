import assert from 'node:assert/strict';
import { arch } from 'node:os';
import { gzipSync } from 'node:zlib';
import { fails } from '../source/open.js';
import { imageOf, indexOf, layerOf, tarOf, type Image, type ImageOptions, type Layer } from './images.js';
import { startNodeRegistry } from './node-registry.js';
import { addressOf, assertDelivers, DISK, useBench } from './open.js';

const OWN = { x64: 'amd64', arm64: 'arm64', s390x: 's390x' }[arch() as 'x64'];
const bytesFor = (architecture: string): Buffer => Buffer.alloc(5000, `disk of ${architecture}`);

describe('which image of a registry is imported', () => {
  const bench = useBench();

  async function open(image: Image, architecture?: string, defaultArchitecture?: string) {
    const server = await bench.serve(startNodeRegistry({ 'team/disk:v1': image }));
    const { source } = await bench.open(addressOf(server), {
      ...(architecture === undefined ? {} : { architecture }),
      ...(defaultArchitecture === undefined ? {} : { defaultArchitecture }),
    });
    return source;
  }

  const imageFor = async (architecture: string): Promise<Image> =>
    imageOf([await layerOf([{ name: 'disk/a', content: bytesFor(architecture) }])], { architecture });
  const imagesFor = async (...architectures: string[]) => await Promise.all(architectures.map(imageFor));

  for (const docker of [false, true])
    it(`the one for the asked architecture, ${docker ? 'Docker list' : 'OCI index'}`, async () => {
      const index = indexOf(await imagesFor('amd64', 's390x', 'arm64'), { docker });
      for (const architecture of ['amd64', 's390x', 'arm64'])
        await assertDelivers(await open(index, architecture), bytesFor(architecture));
    });

  it('the one for this machine where none is asked for', async () => {
    await assertDelivers(
      await open(indexOf(await imagesFor('riscv64', 'amd64', 'arm64', 's390x'))),
      bytesFor(OWN),
    );
  });

  it('the one that was inspected, on whatever machine it is read, where none is asked for', async () => {
    const index = indexOf(await imagesFor('riscv64', 'amd64', 'arm64', 's390x'));
    for (const architecture of ['amd64', 's390x', 'arm64']) {
      const source = await open(index, undefined, architecture);
      await assertDelivers(source, bytesFor(architecture));
      assert.equal(await source.architecture(), architecture);
    }
    await assertDelivers(await open(index, 'riscv64', 'arm64'), bytesFor('riscv64'));
  });

  it('the only one where none is asked for, whatever it is for', async () => {
    const images = await imagesFor('riscv64', 'unknown', 'riscv64');
    const index = indexOf(images, {
      platform: ({ architecture }) => ({
        os: architecture === 'unknown' ? 'unknown' : 'linux',
        architecture,
      }),
    });
    const source = await open(index);
    await assertDelivers(source, bytesFor('riscv64'));
    assert.equal(await source.architecture(), 'riscv64');
    await fails((await open(index, 'arm64')).probe(), 'SourceNotFound', /only for: linux\/riscv64$/u);
  });

  it('none of several for other machines: it says how to choose one', async () => {
    await fails(
      (await open(indexOf(await imagesFor('riscv64', 'ppc64le')))).probe(),
      'SourceNotFound',
      new RegExp(
        `no image for linux/${OWN}, only for: linux/riscv64, linux/ppc64le; name one of them in source.registry.platform.architecture$`,
        'u',
      ),
    );
  });

  it('the first of several variants', async () => {
    const [first, second] = [await imageFor('arm64'), imageOf([], { architecture: 'arm64' })];
    const index = indexOf([first, second], {
      platform: (image) => ({ os: 'linux', architecture: 'arm64', variant: image === first ? 'v8' : 'v9' }),
    });
    await assertDelivers(await open(index, 'arm64'), bytesFor('arm64'));
  });

  it('one without a platform where none fits, if its configuration says so', async () => {
    const index = indexOf(await imagesFor('arm64'), { platform: () => undefined });
    await assertDelivers(await open(index, 'arm64'), bytesFor('arm64'));
    await fails(
      (await open(index, 's390x')).probe(),
      'SourceNotFound',
      /architecture: "arm64" doesn't match/u,
    );
  });

  it('none of another architecture: those that are there are named', async () => {
    const images = await imagesFor('amd64', 'arm64', 'unknown', 'evil sesame');
    const index = indexOf(images, {
      platform: ({ architecture }) => ({
        os: architecture === 'unknown' ? 'unknown' : 'linux',
        architecture,
      }),
    });
    await fails(
      (await open(index, 's390x')).probe(),
      'SourceNotFound',
      /^docker:\S+ has no image for linux\/s390x, only for: linux\/amd64, linux\/arm64$/u,
    );
    await fails((await open(indexOf([]), 'amd64')).probe(), 'SourceNotFound', /only for: none$/u);
  });

  it('none of another operating system', async () => {
    const index = indexOf(await imagesFor('amd64'), {
      platform: () => ({ os: 'windows', architecture: 'amd64' }),
    });
    await fails((await open(index, 'amd64')).probe(), 'SourceNotFound', /only for: windows\/amd64$/u);
  });

  it('one in an index in an index, but not in the fifth', async () => {
    let index = await imageFor('amd64');
    for (let depth = 0; depth < 3; depth += 1) index = indexOf([{ ...index, architecture: 'amd64' }]);
    await assertDelivers(await open(index, 'amd64'), bytesFor('amd64'));
    const deeper = indexOf([{ ...index, architecture: 'amd64' }]);
    await fails((await open(deeper, 'amd64')).probe(), 'ImageInvalid', /more than 3 indexes/u);
  });

  it('a single image only if it is for the asked architecture, with CDI’s words', async () => {
    await assertDelivers(await open(await imageFor('arm64'), 'arm64'), bytesFor('arm64'));
    await assertDelivers(await open(await imageFor('riscv64')), bytesFor('riscv64'));
    await fails(
      (await open(await imageFor('arm64'), 'amd64')).probe(),
      'SourceNotFound',
      /manifest image architecture: "arm64" doesn't match requested architecture: "amd64"$/u,
    );
  });

  for (const label of ['containers.bootc', 'ostree.bootable'])
    it(`no bootc image (${label})`, async () => {
      const image = async (value: string) =>
        imageOf([await layerOf([{ name: 'disk/a', content: DISK }])], { labels: { [label]: value } });
      await assertDelivers(await open(await image('0')));
      await fails(
        (await open(await image('1'))).probe(),
        'UnsupportedFormat',
        /^bootc image detected: .* not yet implemented$/u,
      );
      await fails((await open(await image('1'))).labels(), 'UnsupportedFormat', /^bootc image detected/u);
    });

  describe('layers that are refused', () => {
    const refused = async (
      change: Partial<Layer>,
      type: 'UnsupportedFormat' | 'ImageInvalid',
      message: RegExp,
    ) => {
      const layer = { ...(await layerOf([{ name: 'disk/a', content: DISK }])), ...change };
      const source = await open(imageOf([layer]));
      await fails(source.probe(), type, message);
    };
    it('foreign by their address', () =>
      refused(
        { urls: ['http://127.0.0.1/sesame'] },
        'UnsupportedFormat',
        /^layer 1 of \S+ is a foreign layer/u,
      ));
    it('foreign by their type', () =>
      refused(
        { mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip' },
        'UnsupportedFormat',
        /foreign/u,
      ));
    it('encrypted', () =>
      refused(
        { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip+encrypted' },
        'UnsupportedFormat',
        /is encrypted$/u,
      ));
    it('without a digest', () =>
      refused({ digest: '../../etc/passwd' }, 'ImageInvalid', /is not named by a sha256/u));
    it('with a digest of no secure hash', () =>
      refused({ digest: `md5:${'a'.repeat(32)}` }, 'ImageInvalid', /sha256/u));
    it('with a size below nothing', () => refused({ size: -1 }, 'ImageInvalid', /has no valid size$/u));
    it('with a size beyond all numbers', () =>
      refused({ size: 2 ** 60 }, 'ImageInvalid', /has no valid size$/u));
    it('that are no tar', () => refused({ blob: gzipSync(DISK.subarray(600)) }, 'ImageInvalid', /tar/u));
    it('that are empty', () => refused({ blob: Buffer.alloc(0) }, 'ImageInvalid', /tar archive is empty/u));
  });

  const change = (edit: NonNullable<ImageOptions['change']>) => imageOf([], { change: edit });
  it('257 layers are too many', async () => {
    const layer = { mediaType: 'a', digest: `sha256:${'0'.repeat(64)}`, size: 1 };
    const image = change((manifest) => (manifest['layers'] = Array.from({ length: 257 }, () => layer)));
    await fails((await open(image)).probe(), 'ImageHostile', /has 257 layers, more than 256$/u);
  });

  it('a configuration over 8 MiB is not even asked for', async () => {
    const image = change((manifest) => ((manifest['config'] as { size: number }).size = 8 * 1024 * 1024 + 1));
    await fails((await open(image)).probe(), 'ImageInvalid', /has 8388609 bytes, more than 8388608$/u);
  });

  it('a manifest that is not what its type says is refused', async () => {
    const image = change((manifest) => (manifest['mediaType'] = 'application/vnd.oci.image.index.v1+json'));
    await fails((await open(image)).probe(), 'ImageInvalid', /is not what its media type says$/u);
  });

  it('a layer of noise and nothing else is read in bounded memory', async () => {
    const many = await tarOf(Array.from({ length: 5000 }, (_, index) => ({ name: `disk/.wh.${index}` })));
    const layer: Layer = { tar: many, blob: gzipSync(many), mediaType: '' };
    await fails((await open(imageOf([layer, layer]))).probe(), 'ImageInvalid', /^Failed to find VM disk/u);
    const more = await tarOf(Array.from({ length: 10_001 }, (_, index) => ({ name: `disk/.wh.${index}` })));
    const hostile: Layer = { tar: more, blob: gzipSync(more), mediaType: '' };
    await fails((await open(imageOf([hostile]))).probe(), 'ImageHostile', /hides more than 10000 files/u);
  });
});
