import assert from 'node:assert/strict';
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { deflateRawSync } from 'node:zlib';
import { openZipLayer } from '../../../activities/image/archive/zip-layer.js';
import { RangesLostError, type ImageSource } from '../../../activities/image/source/types.js';
import { createFileSource } from '../support/file-source.js';
import { makeRaw, MIB, useDirectory } from '../support/images.js';
import { gather } from './tar.js';
import { descriptor, infoZip, infoZipOf, infoZipOfPipe, zipArchive, type ZipFields } from './zip.js';

/** How a layer is read, both ways. */
const WAYS = [
  { way: 'behind ranges', ranges: true },
  { way: 'from a stream', ranges: false },
];

describe('zip around a disk image', () => {
  const directory = useDirectory();
  const at = (name: string): string => join(directory(), name);
  let disk = '';
  let content = Buffer.alloc(0);
  before(() => {
    disk = makeRaw(at('disk.img'), 3 * MIB + 77);
    content = readFileSync(disk);
  });

  type Options = Parameters<typeof createFileSource>[1];
  async function open(
    archive: Buffer,
    options: Options,
  ): Promise<{ image: ImageSource; inner: ImageSource }> {
    writeFileSync(at('archive.zip'), archive);
    const inner = createFileSource(at('archive.zip'), { chunk: 50_001, ...options });
    return { image: await openZipLayer(inner), inner };
  }

  /** Makes an archive with Info-ZIP. */
  function make(args: readonly string[], names: readonly string[] = ['disk.img']): Buffer {
    rmSync(at('made.zip'), { force: true });
    infoZip(directory(), ...args, 'made.zip', ...names);
    return readFileSync(at('made.zip'));
  }

  async function assertImage(
    image: ImageSource,
    expected: { ranges: boolean; length?: number },
  ): Promise<void> {
    const { head, validators, ranges, seekable, provedInOrder } = await image.probe();
    assert.ok(head.equals(content.subarray(0, MIB)), 'head');
    assert.deepEqual(
      [ranges, provedInOrder ?? false, seekable, validators.length, validators.etag],
      [expected.ranges, expected.ranges, false, expected.length, '"v1"'],
    );
    assert.ok((await gather(image.stream(0))).equals(content), 'stream from 0');
    assert.ok((await gather(image.stream(MIB + 3))).equals(content.subarray(MIB + 3)), 'from the middle');
    if (!ranges) return;
    const target = new Uint8Array(new SharedArrayBuffer(100_000));
    for (const start of [0, 5, MIB - 10, content.length - 100_000]) {
      await image.readInto(start, target);
      assert.ok(content.subarray(start, start + target.length).equals(target), `${start}`);
    }
  }

  for (const { way, ranges } of WAYS) {
    it(`${way}: deflated and stored by Info-ZIP, 64-bit too, with a comment`, async () => {
      const length = content.length;
      for (const level of ['-6', '-9', '-0'])
        for (const wide of ['-fz', '-fz-']) {
          const { image } = await open(make([level, wide]), { ranges });
          await assertImage(image, { ranges: ranges && level === '-0', length });
        }
      const commented = zipArchive([{ content }], { comment: `${'c'.repeat(60_000)}PK\x05\x06` });
      await assertImage((await open(commented, { ranges })).image, { ranges: false, length });
    });

    it(`${way}: made on a pipe, sizes come after the data`, async () => {
      const { image } = await open(infoZip(directory(), '-', 'disk.img'), { ranges });
      await assertImage(image, { ranges: false, length: content.length });
    });

    it(`${way}: made of an input, which Info-ZIP ends with a 64-bit record that no field needs`, async () => {
      const { image } = await open(infoZipOf(disk), { ranges });
      await assertImage(image, { ranges: false, length: content.length });
    });

    it(`${way}: made of a pipe, which Info-ZIP calls the type of the entry`, async () => {
      const archive = infoZipOfPipe(disk);
      const type = archive.readUInt16LE(archive.indexOf('PK\x01\x02') + 40) & 0xf000;
      assert.equal(type, 0x1000, 'type of the entry');
      await assertImage((await open(archive, { ranges })).image, { ranges: false, length: content.length });
    });

    it(`${way}: every kind of data descriptor`, async () => {
      const data = deflateRawSync(content);
      for (const signed of [true, false])
        for (const wide of [true, false]) {
          const after = descriptor({ content, data }, { signed, wide });
          const local = { crc32: 0, compressedSize: 0, size: 0 };
          const archive = zipArchive([{ content, data, flags: 8, local, after }]);
          const { image } = await open(archive, { ranges, chunk: 1000 + (signed ? 1 : 0) });
          await assertImage(image, { ranges: false, ...(ranges ? { length: content.length } : {}) });
        }
    });

    it(`${way}: directories beside the file do not count`, async () => {
      mkdirSync(at('a/b'), { recursive: true });
      writeFileSync(at('a/b/disk.img'), content);
      const { image } = await open(make(['-r', '-1'], ['a']), { ranges });
      await assertImage(image, { ranges: false, length: content.length });
    });

    for (const flags of [0, 8])
      it(`${way}: what macOS packs beside it does not count, nor does an empty file${flags ? ', sizes after the data' : ''}`, async () => {
        const later = (file: ZipFields): ZipFields => {
          if (flags === 0) return file;
          const bytes = Buffer.from(file.content ?? '');
          const after = descriptor(
            { content: bytes, data: deflateRawSync(bytes) },
            { signed: true, wide: false },
          );
          return { ...file, flags, after, local: { crc32: 0, compressedSize: 0, size: 0 } };
        };
        const disk = { name: 'disk.img', content };
        const fork = { name: '__MACOSX/._disk.img', content: 'Mac OS X        ' };
        const empty = { name: 'README', content: '' };
        const around = { name: '__MACOSX/', method: 0 };
        const length = flags === 0 || ranges ? { length: content.length } : {};
        for (const files of [
          [later(disk), around, later(fork)],
          [later(fork), later(empty), later(disk), later({ ...empty, name: 'LICENSE' })],
        ])
          await assertImage((await open(zipArchive(files), { ranges })).image, { ranges: false, ...length });
      });

    it(`${way}: incompressible data, cut into the smallest pieces`, async () => {
      const noise = Buffer.from(content.subarray(0, 3000));
      for (let index = 0; index < noise.length; index += 1) noise[index] = (index * 7919) >>> (index % 9);
      for (const method of [0, 8]) {
        const { image } = await open(zipArchive([{ content: noise, method }]), { ranges, chunk: 1 });
        assert.ok((await gather(image.stream(0))).equals(noise));
      }
    });
  }

  it('behind ranges: a stored image beyond 4 GiB', async () => {
    const size = 5 * 1024 * MIB;
    const offset = 4.5 * 1024 * MIB;
    const fd = openSync(at('large.zip'), 'w');
    const extra = Buffer.alloc(20);
    extra.writeUInt16LE(1, 0);
    extra.writeUInt16LE(16, 2);
    extra.writeBigUInt64LE(BigInt(size), 4);
    extra.writeBigUInt64LE(BigInt(size), 12);
    const full = 0xffffffff;
    const made = zipArchive([{ method: 0, says: { size: full, compressedSize: full, crc32: 7 } }]);
    const local = Buffer.concat([made.subarray(0, 38), extra]);
    local.writeUInt16LE(20, 28);
    const record = Buffer.concat([made.subarray(38, 38 + 54), extra]);
    record.writeUInt16LE(20, 30);
    const start = local.length + size;
    const end64 = Buffer.alloc(56 + 20);
    end64.writeUInt32LE(0x06064b50, 0);
    end64.writeBigUInt64LE(44n, 4);
    end64.writeBigUInt64LE(1n, 24);
    end64.writeBigUInt64LE(1n, 32);
    end64.writeBigUInt64LE(BigInt(record.length), 40);
    end64.writeBigUInt64LE(BigInt(start), 48);
    end64.writeUInt32LE(0x07064b50, 56);
    end64.writeBigUInt64LE(BigInt(start + record.length), 64);
    end64.writeUInt32LE(1, 72);
    const end = Buffer.from(made.subarray(-22));
    end.writeUInt32LE(full, 16);
    writeSync(fd, local, 0, local.length, 0);
    writeSync(fd, 'far away', local.length + offset);
    writeSync(fd, Buffer.concat([record, end64, end]), 0, record.length + 98, start);
    closeSync(fd);
    const inner = createFileSource(at('large.zip'));
    const image = await openZipLayer(inner);
    const { validators, ranges } = await image.probe();
    assert.deepEqual([validators.length, ranges], [size, true]);
    const target = Buffer.alloc(8);
    await image.readInto(offset, target);
    assert.equal(target.toString(), 'far away');
    assert.ok(inner.bytesRead < 3 * MIB, `${inner.bytesRead} bytes`);
  });

  it('the archive is read to its end, and what the probe read is not read again', async () => {
    const archive = zipArchive([{ content }], { comment: 'c'.repeat(1000) });
    const streamed = await open(archive, { ranges: false });
    await streamed.image.probe();
    assert.ok(streamed.inner.bytesRead < 2 * MIB + 60_000, `${streamed.inner.bytesRead} bytes to probe`);
    await gather(streamed.image.stream(0));
    // the probe of the source around it, then everything once
    const head = Math.min(MIB, archive.length);
    assert.equal(streamed.inner.bytesRead, head + archive.length);
    const { image, inner } = await open(archive, { ranges: true });
    await image.probe();
    await gather(image.stream(0));
    const directory = Math.max(0, Math.min(22 + 65_535 + 20 + 56, archive.length - head));
    assert.equal(inner.bytesRead, head + directory + archive.length - 38);
  });

  it('ranges that are lost on the way leave a stream', async () => {
    const { image } = await open(zipArchive([{ content, method: 0 }]), { loseRangesAfter: 0 });
    await assertImage(image, { ranges: false, length: content.length });
    const later = (await open(zipArchive([{ content, method: 0 }]), { loseRangesAfter: 2 * MIB })).image;
    await later.readInto(MIB, Buffer.alloc(2 * MIB));
    await assert.rejects(later.readInto(2 * MIB, Buffer.alloc(10)), RangesLostError);
  });
});
