import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, rmSync, statSync } from 'node:fs';
import { chosen } from '../support/breadth.js';
import { convertFile } from './support/convert.js';
import { makeRaw, MIB, qemuImg, qemuIo, sha256, useDirectory } from './support/images.js';

/** More than one window, and many blocks of xz. */
const RAW_BYTES = 10 * MIB + 512 * 3;
const USABLE = 32 * MIB;

/** Images of one disk, each by the qemu-img options that make it. */
const QCOW2: Record<string, readonly string[]> = {
  v2: ['-o', 'compat=0.10'],
  v3: ['-o', 'compat=1.1'],
  '512-byte clusters': ['-o', 'cluster_size=512'],
  '4 KiB clusters': ['-o', 'cluster_size=4k'],
  '2 MiB clusters': ['-o', 'cluster_size=2M'],
  zlib: ['-c'],
  'zlib, 512-byte clusters': ['-c', '-o', 'cluster_size=512'],
  'zlib, 2 MiB clusters': ['-c', '-o', 'cluster_size=2M'],
  zstd: ['-c', '-o', 'compression_type=zstd'],
  'zstd, 4 KiB clusters': ['-c', '-o', 'compression_type=zstd,cluster_size=4k'],
  'extended L2': ['-o', 'extended_l2=on,cluster_size=128k'],
  'extended L2, zstd': ['-c', '-o', 'extended_l2=on,cluster_size=32k,compression_type=zstd'],
  'preallocated metadata': ['-o', 'preallocation=metadata'],
  preallocated: ['-o', 'preallocation=full'],
  'out of order': ['-W', '-m', '8'],
  'out of order, zlib': ['-c', '-W', '-m', '8'],
};

/** Images that are read in xz as well: one of each kind of cluster, and one that is not in order. */
const IN_XZ = ['v3', 'zlib', 'extended L2, zstd', 'out of order'];

const CONTAINERS: Record<string, (path: string) => string> = {
  plain: (path) => path,
  gz: (path) => compress('gzip', ['-1', '-k', '-f'], path, 'gz'),
  xz: (path) => compress('xz', ['-0', '-k', '-f'], path, 'xz'),
  'xz of several blocks': (path) => compress('xz', ['-0', '-k', '-f', '--block-size=1MiB'], path, 'xz'),
};

function compress(tool: string, args: readonly string[], path: string, suffix: string): string {
  execFileSync(tool, [...args, path]);
  return `${path}.${suffix}`;
}

/** Digest of what `qemu-img convert` makes of the image, and zeros after it. */
function digestByQemu(image: string, format: string): string {
  const expected = `${image}.expected`;
  qemuImg('convert', '-f', format, '-O', 'raw', image, expected);
  execFileSync('truncate', ['-s', `${USABLE}`, expected]);
  const digest = sha256(expected);
  rmSync(expected);
  return digest;
}

/** The target holds what `qemu-img convert` makes of the image, and zeros after it. */
function assertSameAsQemu(image: string, format: string, target: string): void {
  assert.equal(sha256(target), digestByQemu(image, format));
}

describe('convertImage', function () {
  this.timeout(120_000);
  const directory = useDirectory();
  let raw = '';
  before(() => (raw = makeRaw(`${directory()}/disk.raw`, RAW_BYTES)));

  /** The image of that name and the digest of its disk by qemu-img, made for the first test that reads it. */
  const made = new Map<string, { readonly image: string; readonly digest: string }>();
  function imageOf(
    name: string,
    options: readonly string[],
  ): { readonly image: string; readonly digest: string } {
    const before = made.get(name);
    if (before) return before;
    const image = `${directory()}/${name}.qcow2`.replaceAll(' ', '-');
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', ...options, raw, image);
    const now = { image, digest: digestByQemu(image, 'qcow2') };
    made.set(name, now);
    return now;
  }

  for (const [name, options] of Object.entries(QCOW2)) {
    // whatever is in it, xz is read as one stream: it takes most of the time
    const around = chosen(
      Object.entries(CONTAINERS),
      ([one]) => !one.startsWith('xz') || IN_XZ.includes(name),
    );
    for (const [container, wrap] of around) {
      it(`reads qcow2 (${name}) in ${container} as qemu-img does`, async () => {
        const { image, digest } = imageOf(name, options);
        const target = `${directory()}/${name}-${container}.img`.replaceAll(' ', '-');
        const result = await convertFile(wrap(image), target, { usableBytes: USABLE });
        assert.equal(result.virtualSize, RAW_BYTES);
        assert.equal(statSync(target).size, USABLE);
        assert.equal(sha256(target), digest);
      });
    }
    it(`reads qcow2 (${name}) from a server without ranges`, async () => {
      const { image, digest } = imageOf(name, options);
      const target = `${directory()}/${name}-no-ranges.img`.replaceAll(' ', '-');
      await convertFile(image, target, { usableBytes: USABLE, ranges: false, chunk: 70_001, direct: false });
      assert.equal(sha256(target), digest);
    });
  }

  for (const [container, wrap] of Object.entries(CONTAINERS)) {
    it(`copies a raw disk in ${container} byte for byte`, async () => {
      const image = `${directory()}/copy.raw`;
      copyFileSync(raw, image);
      const target = `${directory()}/raw-${container}.img`.replaceAll(' ', '-');
      const result = await convertFile(wrap(image), target, { usableBytes: USABLE });
      assert.equal(result.virtualSize, RAW_BYTES);
      assertSameAsQemu(image, 'raw', target);
    });
  }

  it('reads a worn image (snapshots, resize, discards, overwrites) by ranges, with and without a checksum', async () => {
    const image = `${directory()}/worn.qcow2`;
    const large = makeRaw(`${directory()}/large.raw`, 24 * MIB);
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', '-o', 'lazy_refcounts=on', large, image);
    qemuImg('snapshot', '-c', 'one', image);
    qemuIo(image, 'qcow2', 'write -P 7 3M 2M', 'write -z 9M 1M', 'discard 12M 1M', 'write -P 9 100k 3k');
    qemuImg('snapshot', '-c', 'two', image);
    qemuIo(image, 'qcow2', 'write -P 3 4M 64k', 'write -P 1 20M 1M');
    qemuImg('snapshot', '-d', 'one', image);
    const ranged = `${directory()}/worn.img`;
    await convertFile(image, ranged, { usableBytes: USABLE });
    assertSameAsQemu(image, 'qcow2', ranged);
    const summed = `${directory()}/worn-sum.img`;
    const checksum = `sha256:${sha256(image)}`;
    const result = await convertFile(image, summed, { usableBytes: USABLE, checksum });
    assert.equal(result.checksum, checksum);
    assertSameAsQemu(image, 'qcow2', summed);
  });

  it('reads an image whose L1 table moved to its end', async () => {
    const image = `${directory()}/resized.qcow2`;
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', '-o', 'cluster_size=4k', raw, image);
    qemuImg('resize', image, '4G');
    const target = `${directory()}/resized.img`;
    const result = await convertFile(image, target, { usableBytes: 4096 * MIB });
    assert.equal(result.virtualSize, 4096 * MIB);
    assert.match(qemuImg('compare', '-f', 'raw', '-F', 'qcow2', target, image), /identical/);
  });

  it('writes no zeros: the disk occupies what its data needs', async () => {
    const image = `${directory()}/sparse.raw`;
    execFileSync('truncate', ['-s', '1G', image]);
    qemuIo(image, 'raw', 'write -P 5 512M 1M');
    const target = `${directory()}/sparse.img`;
    const result = await convertFile(image, target, { usableBytes: 1024 * MIB, chunk: MIB });
    assert.equal(result.bytesWritten, MIB);
    assert.ok(statSync(target).blocks * 512 <= 2 * MIB, `${statSync(target).blocks * 512} bytes allocated`);
    assert.match(qemuImg('compare', '-f', 'raw', '-F', 'raw', target, image), /identical/);
  });
});
