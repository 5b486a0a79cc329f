import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { collect, fails } from '../source/open.js';
import { digestOf, imageOf, layerOf, tarOf, type Image, type LayerFile } from './images.js';
import { startNodeRegistry } from './node-registry.js';
import { addressOf, assertDelivers, DISK, useBench } from './open.js';

const OTHER = Buffer.alloc(70_000, 'other');
const DIRECTORY: LayerFile = { name: 'disk/', type: 'directory' };
const FILE: LayerFile = { name: 'disk/disk.img', content: DISK };
const NOT_FOUND =
  /^Failed to find VM disk image file in the container image docker:\/\/127\.0\.0\.1:\d+\/team\/disk:v1$/u;

describe('which file of a container image is the disk', () => {
  const bench = useBench();

  async function open(image: Image) {
    const server = await bench.serve(startNodeRegistry({ 'team/disk:v1': image }));
    return (await bench.open(addressOf(server))).source;
  }
  const openLayers = async (...layers: (readonly LayerFile[])[]) =>
    await open(imageOf(await Promise.all(layers.map((files) => layerOf(files)))));

  for (const compression of ['none', 'gz', 'zst', 'xz'] as const) {
    it(`is streamed out of a layer with compression ${compression}`, async () => {
      const layer = await layerOf([DIRECTORY, FILE], compression);
      const source = await open(imageOf([layer]));
      await assertDelivers(source);
      const around = compression === 'none' ? [] : [compression];
      assert.deepEqual(source.containers, ['oci', ...around, 'tar']);
      const { validators, displayUrl } = await source.probe();
      assert.equal(validators.etag, `"${digestOf(layer.blob)}"`);
      assert.match(displayUrl, /^docker:\/\/127\.0\.0\.1:\d+\/team\/disk:v1$/u);
      assert.ok(source.bytesRead >= layer.blob.length);
    });
  }

  it('is the same whatever the media type says', async () => {
    const layer = await layerOf([FILE], 'zst');
    await assertDelivers(await open(imageOf([{ ...layer, mediaType: 'application/octet-stream' }])));
    await assertDelivers(await open(imageOf([layer], { docker: true })));
  });

  for (const name of ['disk/a', './disk/a', '/disk/a', './/disk//a', './././disk/./a'])
    it(`is found as ${name}`, async () => {
      await assertDelivers(await openLayers([{ name, content: DISK }]));
    });

  for (const name of ['diskette/a', 'disk', 'disk/deep/a', 'var/disk/a', 'disk.img', 'Disk/a'])
    it(`is not ${name}`, async () => {
      await fails((await openLayers([{ name, content: DISK }])).probe(), 'ImageInvalid', NOT_FOUND);
    });

  for (const name of ['disk/../disk/a', '../disk/a', 'disk/../../a', 'x/y/../../disk/a'])
    it(`a path like ${name} is tainted`, async () => {
      const source = await openLayers([{ name, content: DISK }]);
      await fails(
        source.probe(),
        'ImageHostile',
        /^layer 1 of 1 of docker:\S+: content filepath is tainted/u,
      );
    });

  it('is that of the topmost layer', async () => {
    const lower = [DIRECTORY, { name: 'disk/disk.img', content: OTHER }];
    await assertDelivers(await openLayers(lower, [FILE], [{ name: 'etc/motd', content: 'hello' }]));
    await assertDelivers(await openLayers([{ name: 'disk/another', content: OTHER }], [FILE]));
  });

  it('is read from below layers that hold no disk, all of which are verified', async () => {
    const motd = { name: 'etc/motd', content: OTHER };
    const layers = await Promise.all([layerOf([FILE]), layerOf([motd]), layerOf([motd, DIRECTORY])]);
    const server = await bench.serve(startNodeRegistry({ 'team/disk:v1': imageOf(layers) }));
    const { source, notices } = await bench.open(addressOf(server));
    await assertDelivers(source);
    assert.match(
      notices.join('\n'),
      /^layer 3 of 3 of \S+ holds no disk\nlayer 2 of 3 of \S+ holds no disk$/mu,
    );
    assert.ok(source.bytesRead >= layers.reduce((sum, { blob }) => sum + blob.length, 0));
  });

  for (const [mediaType, content] of [
    ['application/json', '{}'],
    ['application/vnd.in-toto+json', '{"_type":"https://in-toto.io/Statement/v0.1"}'],
  ] as const)
    it(`is looked for below a layer of the media type ${mediaType}, which is passed over and said`, async () => {
      const blob = Buffer.from(content);
      const image = imageOf([await layerOf([FILE]), { tar: blob, blob, mediaType }]);
      const server = await bench.serve(startNodeRegistry({ 'team/disk:v1': image }));
      const { source, notices } = await bench.open(addressOf(server));
      await assertDelivers(source);
      assert.match(notices.join('\n'), /^layer 2 of 2 of \S+ is passed over: its media type "\S+" is none/mu);
    });

  it('is not found above a layer that is no tar, which is named with its digest', async () => {
    const blob = Buffer.from('{}');
    const { mediaType } = await layerOf([FILE]);
    const source = await open(imageOf([await layerOf([FILE]), { tar: blob, blob, mediaType }]));
    const message = new RegExp(`^layer 2 of 2 of \\S+ \\(${digestOf(blob)}\\): tar archive`, 'u');
    await fails(source.probe(), 'ImageInvalid', message);
  });

  describe('whiteouts', () => {
    const hiding: Record<string, LayerFile> = {
      'of the file': { name: 'disk/.wh.disk.img' },
      'of the file, with ./': { name: './disk/.wh.disk.img' },
      'of all files': { name: 'disk/.wh..wh..opq' },
      'of the directory': { name: '.wh.disk' },
      'of everything': { name: '.wh..wh..opq' },
      'by a directory of the same name': { name: 'disk/disk.img/', type: 'directory' },
      'by a file in place of the directory': { name: 'disk', content: 'x' },
      'by a link in place of the directory': { name: 'disk', type: 'symlink', linkname: '/etc' },
    };
    for (const [what, entry] of Object.entries(hiding)) {
      it(`${what} in an upper layer hides it`, async () => {
        await fails((await openLayers([FILE], [entry])).probe(), 'ImageInvalid', NOT_FOUND);
        const between = await openLayers([FILE], [entry], [{ name: 'etc/motd', content: 'x' }]);
        await fails(between.probe(), 'ImageInvalid', NOT_FOUND);
      });
    }

    for (const [what, entry] of Object.entries(hiding).slice(0, 5)) {
      it(`${what} do not hide the file of their own layer, before or after it`, async () => {
        const old = [{ name: 'disk/disk.img', content: OTHER }];
        await assertDelivers(await openLayers(old, [entry, FILE]));
        await assertDelivers(await openLayers(old, [FILE, entry]));
      });
    }

    it('of another file hide nothing', async () => {
      const upper = [{ name: 'disk/.wh.disk' }, { name: '.wh.disk.img' }, { name: 'disk/.wh..wh.plnk' }];
      await assertDelivers(await openLayers([FILE], upper));
    });

    it('hide one file of a layer, and the other is the disk', async () => {
      const lower = [{ name: 'disk/old.img', content: OTHER }, FILE];
      await assertDelivers(await openLayers(lower, [{ name: 'disk/.wh.old.img' }]));
    });

    it('hide a file that then is in a layer below, until one that is not hidden', async () => {
      const source = await openLayers(
        [{ name: 'disk/new.img', content: DISK }],
        [FILE],
        [hiding['of the file']!],
      );
      await assertDelivers(source);
    });
  });

  it('can be a sparse file of the tar', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'dvflow-layer-'));
    try {
      const disk = Buffer.concat([DISK, Buffer.alloc(40 * 1024 * 1024), OTHER]);
      mkdirSync(join(directory, 'disk'));
      writeFileSync(join(directory, 'packed'), disk);
      const path = join(directory, 'disk', 'disk.img');
      execFileSync('cp', ['--sparse=always', join(directory, 'packed'), path]);
      const tar = execFileSync('tar', ['-C', directory, '--sparse', '-c', 'disk'], { maxBuffer: 2 ** 26 });
      assert.ok(tar.length < disk.length / 2, 'the tar is sparse');
      await assertDelivers(await open(imageOf([{ tar, blob: tar, mediaType: '' }])), disk);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('is read out of a zstd layer that ends in a skippable frame, as zstd:chunked has it', async () => {
    const layer = await layerOf([FILE], 'zst');
    const frame = Buffer.concat([Buffer.from('502a4d1804000000', 'hex'), Buffer.from('toc!')]);
    await assertDelivers(await open(imageOf([{ ...layer, blob: Buffer.concat([layer.blob, frame]) }])));
  });

  it('is not looked for behind a file of 100 GiB', async () => {
    const tar = await tarOf([{ name: 'var/huge' }, FILE]);
    // a size of more than eleven octal digits is a binary number with its first bit set
    tar.write('8000000000000000', 124, 'hex');
    tar.writeUIntBE(100 * 1024 ** 3, 130, 6);
    tar.write(' '.repeat(8), 148);
    const sum = tar.subarray(0, 512).reduce((total, byte) => total + byte, 0);
    tar.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    const source = await open(imageOf([{ tar, blob: tar, mediaType: '' }]));
    await fails(source.probe(), 'ImageHostile', /68719476736 bytes besides the disk$/u);
  });

  it('is one: two files are refused when the layer has been read', async () => {
    const source = await openLayers([FILE, { name: 'disk/second', content: '' }]);
    assert.equal((await source.probe()).validators.length, DISK.length);
    await fails(
      collect(source.stream(0)),
      'ImageInvalid',
      /^layer 1 of 1 of docker:\S+: image directory contains more than one file$/u,
    );
  });

  it('is one: a small layer with two files is refused by the probe', async () => {
    const source = await openLayers([
      { name: 'disk/first', content: OTHER },
      { name: 'disk/first', content: OTHER },
    ]);
    await fails(source.probe(), 'ImageInvalid', /more than one file$/u);
  });

  for (const [type, words] of [
    ['symlink', 'a symbolic link'],
    ['link', 'a hard link'],
    ['fifo', 'no regular file'],
  ] as const)
    it(`is a regular file: ${type} is refused`, async () => {
      const entry: LayerFile = { name: 'disk/disk.img', type, linkname: 'images/a' };
      const source = await openLayers([{ name: 'images/a', content: DISK }, entry]);
      await fails(
        source.probe(),
        'UnsupportedFormat',
        new RegExp(`contains ${words}, only a regular file`, 'u'),
      );
    });

  it('is not in an image without layers', async () => {
    await fails((await open(imageOf([]))).probe(), 'ImageInvalid', NOT_FOUND);
  });

  it('is read again by a second stream, and from the middle', async () => {
    const source = await openLayers([FILE], [{ name: 'etc/motd', content: OTHER }]);
    await assertDelivers(source);
    assert.ok((await collect(source.stream(0))).equals(DISK));
    assert.ok((await collect(source.stream(2_000_001))).equals(DISK.subarray(2_000_001)));
  });

  it('is found by a stream that nobody has probed for', async () => {
    assert.ok((await collect((await openLayers([FILE])).stream(0))).equals(DISK));
  });

  it('has no ranges', async () => {
    const source = await openLayers([FILE]);
    await assert.rejects(source.readInto(0, Buffer.alloc(1)), /no ranges/u);
  });

  it('can be empty', async () => {
    const source = await openLayers([{ name: 'disk/empty' }]);
    const facts = await source.probe();
    assert.deepEqual([facts.head.length, facts.validators.length], [0, 0]);
    assert.equal((await collect(source.stream(0))).length, 0);
  });
});
