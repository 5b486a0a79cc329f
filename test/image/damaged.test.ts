import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { convertFile } from './support/convert.js';
import { firstL2 } from './qcow2-lies.js';
import { assertRefused } from './support/refused.js';
import { makeRaw, MIB, qemuImg, useDirectory } from './support/images.js';

/** How lzop begins its files. */
const LZOP = Buffer.from([0x89, 0x4c, 0x5a, 0x4f, 0x00, 0x0d, 0x0a, 0x1a, 0x0a]);

describe('damaged images', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  const usableBytes = 8 * MIB;
  let raw = '';
  let honest: Buffer;
  let compressed: Buffer;
  let count = 0;
  const target = (): string => `${directory()}/target-${(count += 1)}.img`;

  function write(content: Buffer | string, suffix = 'qcow2'): string {
    const path = `${directory()}/image-${(count += 1)}.${suffix}`;
    writeFileSync(path, content);
    return path;
  }

  before(() => {
    raw = makeRaw(`${directory()}/disk.raw`, 8 * MIB);
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, `${directory()}/honest.qcow2`);
    qemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, `${directory()}/compressed.qcow2`);
    honest = readFileSync(`${directory()}/honest.qcow2`);
    compressed = readFileSync(`${directory()}/compressed.qcow2`);
  });

  for (const bytes of [3, 100, 200, 70_000, 300_000, 2_000_000]) {
    it(`refuses a qcow2 cut to ${bytes} bytes`, async () => {
      const path = write(honest.subarray(0, bytes));
      const type = bytes < 4 ? 'raw' : 'qcow2';
      // three bytes are no magic number: they are a raw disk of three bytes
      if (type === 'raw')
        return assert.equal((await convertFile(path, target(), { usableBytes })).virtualSize, bytes);
      await assertRefused(path, target(), { usableBytes }, 'ImageInvalid', /cut short/);
      await assertRefused(path, target(), { usableBytes, ranges: false }, 'ImageInvalid', /cut short/);
    });
  }

  it('refuses damaged compressed clusters', async () => {
    const image = Buffer.from(compressed);
    const entries = Array.from({ length: 128 }, (_, index) =>
      image.readBigUInt64BE(firstL2(image) + index * 8),
    );
    const entry = entries.find((found) => (found >> 62n) & 1n) ?? 0n;
    const at = Number(entry & ((1n << 54n) - 1n));
    image.fill(0xff, at, at + 64);
    await assertRefused(
      write(image),
      target(),
      { usableBytes },
      'ImageInvalid',
      /guest offset \d+ is damaged/,
    );
  });

  it('refuses a disk larger than the claim before anything is allocated', async () => {
    const path = `${directory()}/large.qcow2`;
    qemuImg('create', '-f', 'qcow2', path, '1T');
    const out = target();
    await assertRefused(
      path,
      out,
      { usableBytes },
      'LargerPVCRequired',
      /image needs 1099511627776 bytes, claim team-a\/vm1 offers 8388608/,
    );
    assert.equal(statSync(out).size, 0);
  });

  for (const [tool, suffix] of [
    ['gzip', 'gz'],
    ['xz', 'xz'],
  ] as const) {
    it(`refuses ${suffix} that is cut short, damaged or followed by something else`, async () => {
      const path = `${directory()}/stream.${suffix}`;
      execFileSync('sh', ['-c', `${tool} -1 < ${raw} > ${path}`]);
      const whole = readFileSync(path);
      const damaged = Buffer.from(whole);
      damaged.fill(0x55, whole.length >> 1, (whole.length >> 1) + 64);
      await assertRefused(
        write(whole.subarray(0, whole.length - 100), suffix),
        target(),
        { usableBytes },
        'ImageInvalid',
        /cut short/,
      );
      await assertRefused(
        write(whole.subarray(0, 40_000), suffix),
        target(),
        { usableBytes },
        'ImageInvalid',
        /cut short/,
      );
      await assertRefused(write(damaged, suffix), target(), { usableBytes }, 'ImageInvalid', /damaged/);
      await assertRefused(
        write(Buffer.concat([whole, Buffer.from('something else, not a stream')]), suffix),
        target(),
        { usableBytes },
        'ImageInvalid',
        /followed by bytes|something follows it/,
      );
      const twice = write(Buffer.concat([whole.subarray(0, 0), whole, Buffer.alloc(512)]), suffix);
      assert.equal((await convertFile(twice, target(), { usableBytes })).virtualSize, 8 * MIB);
    });
  }

  it('refuses internal snapshots behind a compressor, and reads them by ranges', async () => {
    const path = `${directory()}/snapshot.qcow2`;
    writeFileSync(path, honest);
    qemuImg('snapshot', '-c', 'one', path);
    await assertRefused(
      path,
      target(),
      { usableBytes, ranges: false },
      'ScratchSpaceRequired',
      /1 internal snapshots/,
    );
    await convertFile(path, target(), { usableBytes });
  });

  for (const [name, content, type, message] of [
    ['nothing', '', 'ImageInvalid', /source is empty/],
    ['an HTML page', '\n<!DOCTYPE html><html>login</html>', 'ImageInvalid', /HTML page/],
    ['a page that begins by a comment', '<!-- portal -->\n<html>', 'ImageInvalid', /HTML page/],
    ['a page without its first tags', '<head><meta http-equiv="refresh">', 'ImageInvalid', /HTML page/],
    [
      'an Android sparse image',
      Buffer.from([0x3a, 0xff, 0x26, 0xed, 1]),
      'UnsupportedFormat',
      /an Android sparse image/,
    ],
    ['a WIM', 'MSWIM\0\0\0', 'UnsupportedFormat', /a Windows image \(WIM\)/],
    ['a partclone image', 'partclone-image0002', 'UnsupportedFormat', /an image of partclone/],
    ['an E01', Buffer.from('EVF\t\r\n\xff\0', 'latin1'), 'UnsupportedFormat', /an EWF image/],
    ['old zstd', Buffer.from([0x27, 0xb5, 0x2f, 0xfd]), 'UnsupportedFormat', /zstd of a version before 0.8/],
    ['bzip2', 'BZh91AY&SY', 'UnsupportedFormat', /source is bzip2/],
    ['lz4', '\x04\x22M\x18', 'UnsupportedFormat', /source is lz4,/],
    ['lz4 of the old format', '\x02\x21L\x18', 'UnsupportedFormat', /source is lz4 of the old format/],
    ['lzma', execFileSync('xz', ['--format=lzma', '-c'], { input: 'disk' }), 'UnsupportedFormat', /is lzma,/],
    ['lzop', LZOP, 'UnsupportedFormat', /source is lzop/],
    ['compress', Buffer.from([0x1f, 0x9d, 0x90, 0x61]), 'UnsupportedFormat', /source is compress \(\.Z\)/],
    [
      'the first part of a zip',
      'PK\x07\x08PK\x03\x04',
      'UnsupportedFormat',
      /source is the first part of a zip in several/,
    ],
    ['a backup of Proxmox VE', 'VMA\0\0\0\0\x01', 'UnsupportedFormat', /source is a backup of Proxmox VE/],
    ['XML', '<?xml version="1.0"?>\n<Envelope/>', 'ImageInvalid', /source is an XML document/],
    ['the answer of an API', '{"errors":[{"status":404}]}\n', 'ImageInvalid', /source is a JSON document/],
    [
      'a pointer of Git LFS',
      'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n',
      'ImageInvalid',
      /source is the pointer of Git LFS to a file/,
    ],
    ['lzip', 'LZIP\x01\x0c', 'UnsupportedFormat', /source is lzip/],
    ['VMDK of ESX', 'COWD\x01\0\0\0', 'UnsupportedFormat', /source is a VMDK of ESX \(COWD, vmfsSparse\)/],
    ['VMDK descriptor', '# Disk DescriptorFile\n', 'ImageHostile', /descriptor of a VMDK/],
    ['VMDK descriptor that begins otherwise', 'version=1\nCID=7\n', 'ImageHostile', /descriptor of a VMDK/],
    [
      'VMDK descriptor behind comments and blank lines',
      '#\r\n  \r\n# another\n\nversion=3\r\n',
      'ImageHostile',
      /descriptor of a VMDK/,
    ],
    ['QED in gz', gzipSync('QED\0...'), 'UnsupportedFormat', /content of the gz is QED/],
    [
      'zstd that is cut short',
      Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0]),
      'ImageInvalid',
      /zstd stream is cut short/,
    ],
    ['VMDK that is cut short', 'KDMV....', 'ImageInvalid', /VMDK header ends at 512, the file at 8/],
  ] as const) {
    it(`refuses ${name} by name`, async () => {
      const out = target();
      await assertRefused(write(Buffer.from(content), 'bin'), out, { usableBytes }, type, message);
      assert.ok(!existsSync(out) || statSync(out).size === 0);
    });
  }

  for (const begins of [
    'version=4\n',
    'version=10\n',
    ' version=1\n',
    '{"begins": "like JSON"}\0',
    '[ here ] or not',
    '\0version=1\n',
    '#!/bin/sh\nset -e\n',
    ']\0\0 \0data, no coder',
    ']\0\x01\x80\0\0\0\0\0\0\0\0\0\0',
  ])
    it(`takes a raw disk that begins with ${JSON.stringify(begins)}`, async () => {
      const path = write(Buffer.concat([Buffer.from(begins), Buffer.alloc(4096, ' ')]), 'raw');
      assert.equal((await convertFile(path, target(), { usableBytes })).format, 'raw');
    });

  describe('an Apple disk image, which shows by its end', () => {
    /** UDIF's trailer (`UDIFResourceFile`): cookie, version and its own length. */
    const trailer = (version = 4): Buffer => {
      const bytes = Buffer.alloc(512);
      bytes.write('koly');
      bytes.writeUInt32BE(version, 4);
      bytes.writeUInt32BE(512, 8);
      return bytes;
    };
    const ending = (bytes: number, end: Buffer): string =>
      write(Buffer.concat([Buffer.alloc(bytes, 'data'), end]), 'dmg');

    for (const [way, bytes, options] of [
      ['behind ranges', 3 * MIB, {}],
      ['behind ranges, not of whole sectors', 3 * MIB + 77, {}],
      ['as a stream', 3 * MIB + 77, { ranges: false, chunk: 1000 }],
      ['as a stream without a length', 3 * MIB, { ranges: false, length: false }],
      ['in its first bytes', 5000, { ranges: false }],
      ['that is nothing but the trailer', 0, {}],
    ] as const)
      it(`is refused ${way}`, async () => {
        const message = /is an Apple disk image \(UDIF\), which this release does not read/;
        const path = ending(bytes, trailer());
        await assertRefused(path, target(), { usableBytes, ...options }, 'UnsupportedFormat', message);
      });

    it('is not seen where the end only looks like one, or for who asks for raw', async () => {
      for (const ranges of [true, false]) {
        const like = await convertFile(ending(3 * MIB, trailer(3)), target(), { usableBytes, ranges });
        assert.deepEqual([like.format, like.virtualSize], ['raw', 3 * MIB + 512]);
        const options = { usableBytes, ranges, format: 'raw' } as const;
        const asked = await convertFile(ending(3 * MIB, trailer()), target(), options);
        assert.equal(asked.virtualSize, 3 * MIB + 512);
      }
    });
  });

  describe('a zip, which shows by its end', () => {
    const archive = (...args: readonly string[]): Buffer => {
      // its last part is longer than the 512 bytes that are looked at
      makeRaw(`${directory()}/zipped.raw`, MIB + 30_000);
      rmSync(`${directory()}/made.zip`, { force: true });
      execFileSync('zip', ['-q', '-j', ...args, `${directory()}/made.zip`, `${directory()}/zipped.raw`]);
      return readFileSync(`${directory()}/made.zip`);
    };
    for (const [name, make, message] of [
      [
        'behind a program that unpacks it',
        () => Buffer.concat([Buffer.from('MZ program'), Buffer.alloc(2 * MIB), archive()]),
        /zip archive with other bytes before it/,
      ],
      ['as its last part', () => archive('-0', '-s', '64k'), /last part of a zip in several/],
    ] as const)
      it(`is refused ${name}, behind ranges and as a stream`, async () => {
        const path = write(make(), 'bin');
        for (const ranges of [true, false])
          await assertRefused(path, target(), { usableBytes, ranges }, 'UnsupportedFormat', message);
      });

    it('is not seen where only an end record stands, or for who asks for raw', async () => {
      const made = archive();
      const end = Buffer.concat([Buffer.alloc(MIB, 'data'), made.subarray(-22)]);
      const whole = Buffer.concat([Buffer.alloc(MIB, 'data'), made]);
      for (const ranges of [true, false]) {
        const like = await convertFile(write(end, 'raw'), target(), { usableBytes, ranges });
        assert.equal(like.virtualSize, end.length);
        const options = { usableBytes, ranges, format: 'raw' } as const;
        assert.equal((await convertFile(write(whole, 'raw'), target(), options)).virtualSize, whole.length);
      }
    });
  });

  it('takes the disk out of a tar from before POSIX, which has no magic, and a boot sector that is like one', async () => {
    const disk = makeRaw(`${directory()}/old.raw`, MIB);
    const archive = `${directory()}/old.tar`;
    execFileSync('tar', ['--format=v7', '-C', directory(), '-cf', archive, 'old.raw']);
    const out = target();
    assert.equal((await convertFile(archive, out, { usableBytes })).format, 'raw');
    truncateSync(out, MIB);
    assert.ok(readFileSync(out).equals(readFileSync(disk)));

    const like = readFileSync(archive);
    like.write('0', 200);
    assert.equal((await convertFile(write(like, 'raw'), target(), { usableBytes })).virtualSize, like.length);
  });

  it('takes a disk of one byte', async () => {
    const path = write('x', 'raw');
    const out = target();
    assert.equal((await convertFile(path, out, { usableBytes })).virtualSize, 1);
    truncateSync(path, usableBytes);
    assert.ok(readFileSync(out).equals(readFileSync(path)));
  });
});
