import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { deflateRawSync } from 'node:zlib';
import { openZipLayer } from '../../../activities/image/archive/zip-layer.js';
import { createFileSource } from '../support/file-source.js';
import { MIB, useDirectory } from '../support/images.js';
import { refusal } from '../support/refused.js';
import { infoZipOf, zipArchive, type EndFields, type ZipFields } from './zip.js';

/** What each way of reading says; one message where both say the same. */
type Refusal = readonly [type: string, message: RegExp];

describe('zip layer, on damaged and hostile archives', () => {
  const directory = useDirectory();
  const content = Buffer.from('disk content, '.repeat(5000));

  async function read(archive: Buffer, ranges: boolean): Promise<number> {
    const path = join(directory(), 'archive.zip');
    writeFileSync(path, archive);
    const image = await openZipLayer(createFileSource(path, { ranges, chunk: 10_000 }));
    await image.probe();
    let length = 0;
    for await (const piece of image.stream(0)) length += piece.length;
    return length;
  }

  async function assertBoth(archive: Buffer, ranged: Refusal, streamed: Refusal = ranged): Promise<void> {
    await assert.rejects(read(archive, true), refusal(...ranged), 'behind ranges');
    await assert.rejects(read(archive, false), refusal(...streamed), 'from a stream');
  }

  const refuses = (
    trick: string,
    make: () => { files: readonly ZipFields[]; end?: EndFields },
    ranged: Refusal,
    streamed?: Refusal,
  ): void => {
    it(`${trick}: refused`, async () => {
      const { files, end } = make();
      await assertBoth(zipArchive(files, end), ranged, streamed);
    });
  };
  const one = (fields: ZipFields, end?: EndFields) => () => ({
    files: [{ content, ...fields }],
    ...(end ? { end } : {}),
  });

  it('an honest archive is read, so that the others are refused for what they mean to', async () => {
    for (const ranges of [true, false])
      for (const method of [0, 8])
        assert.equal(await read(zipArchive([{ content, method }]), ranges), content.length);
  });

  refuses(
    'two-entries',
    () => ({
      files: [
        { content, name: 'a' },
        { content, name: 'b' },
      ],
    }),
    ['UnsupportedFormat', /holds 2 files, one is expected: 'a', 'b'$/],
    ['UnsupportedFormat', /more than one file: 'a' and 'b'/],
  );
  refuses('no-entries', () => ({ files: [] }), ['ImageInvalid', /zip archive holds no file/]);
  refuses('only-a-directory', () => ({ files: [{ name: 'd/', method: 0 }] }), [
    'ImageInvalid',
    /zip archive holds no file/,
  ]);
  refuses(
    'two-entries, and others that do not count',
    () => ({
      files: [
        { content: 'fork', name: '__MACOSX/._a' },
        { content, name: 'a' },
        { content: '', name: 'empty', method: 0 },
        { content, name: 'b' },
      ],
    }),
    ['UnsupportedFormat', /holds 2 files, one is expected: 'a', 'b'$/],
    ['UnsupportedFormat', /more than one file: 'a' and 'b'/],
  );
  refuses('only-what-macOS-packs-beside', () => ({ files: [{ content, name: '._disk.img' }] }), [
    'ImageInvalid',
    /holds no disk image: none of its 1 files can be one/,
  ]);
  refuses(
    'a link, or dot-dot, among what does not count',
    () => ({ files: [{ content }, { content: 'x', name: '../._disk.img' }] }),
    ['ImageHostile', /leads out of the archive/],
  );
  refuses(
    'a-directory-with-content',
    () => ({ files: [{ content }, { name: 'd/', content }] }),
    ['UnsupportedFormat', /holds 2 files/],
    ['ImageInvalid', /zip directory entry 'd\/' has content/],
  );
  refuses('empty-file', one({ content: '', method: 0 }), ['ImageInvalid', /'disk.img' is empty/]);
  refuses('encrypted', one({ flags: 1 }), ['UnsupportedFormat', /'disk.img' is encrypted/]);
  refuses('encrypted-strongly', one({ flags: 0x41 }), ['UnsupportedFormat', /is encrypted/]);
  refuses('aes', one({ method: 99 }), ['UnsupportedFormat', /method 99 \(AES encryption\)/]);
  refuses('zstd-method', one({ method: 93 }), ['UnsupportedFormat', /method 93 \(zstd\)/]);
  refuses('deflate64', one({ method: 9 }), ['UnsupportedFormat', /method 9 \(deflate64\)/]);
  refuses('symbolic-link', one({ attributes: (0o120777 << 16) >>> 0 }), [
    'ImageHostile',
    /'disk.img' is a link or device, not a file \(type 120000\)/,
  ]);
  refuses('dot-dot', one({ name: '../../disk' }), ['ImageHostile', /leads out of the archive/]);
  refuses('stored-sizes-differ', one({ method: 0, says: { size: 5 } }), [
    'ImageInvalid',
    /stored in 70000 bytes but has 5/,
  ]);

  refuses('bomb: more than it says', one({ content: Buffer.alloc(50 * MIB), says: { size: 1000 } }), [
    'ImageHostile',
    /becomes more than the 1000 bytes that it says/,
  ]);
  refuses('size-too-large', one({ says: { size: 70_001 } }), [
    'ImageInvalid',
    /has size 70000, 70001 is said/,
  ]);
  refuses(
    'compressed-size-too-small',
    one({ says: { compressedSize: 100 } }),
    ['ImageInvalid', /data of 'disk.img' ends after 138 bytes/],
    ['ImageInvalid', /data of 'disk.img' ends after 138 bytes/],
  );
  refuses(
    'compressed-size-too-large',
    one({ data: Buffer.concat([deflateRawSync(content), Buffer.from('more')]) }),
    ['ImageInvalid', /has compressedSize \d+, \d+ is said/],
  );
  refuses('crc-wrong', one({ says: { crc32: 1 } }), ['ImageInvalid', /has crc32 \d+, 1 is said/]);
  refuses('deflate-damaged', one({ data: Buffer.alloc(300, 0xff) }), [
    'ImageInvalid',
    /deflate stream of zip entry 'disk.img' is damaged \(Z_DATA_ERROR\)/,
  ]);
  refuses(
    'data-beyond-directory',
    one({ says: { compressedSize: 1_000_000 } }),
    ['ImageInvalid', /has 1000000 bytes at 0, its directory begins at/],
    ['ImageInvalid', /has compressedSize \d+, 1000000 is said/],
  );

  for (const [field, value, pattern] of [
    ['size', 3, /has size 3 in its header, 70000 in the directory/],
    ['crc32', 3, /has crc32 3 in its header/],
    ['method', 0, /has method 0 in its header, 8 in the directory/],
    ['name', 'other', /directory has 'disk.img' where the entry itself is named 'other'/],
    ['signature', 0, /no entry at 0/],
  ] as const)
    it(`local-header-differs in ${field}: refused`, async () => {
      const archive = zipArchive([{ content, local: { [field]: value } }]);
      await assert.rejects(read(archive, true), refusal('ImageInvalid', pattern));
      await assert.rejects(read(archive, false), (error: { type?: string }) =>
        ['ImageInvalid', 'ImageHostile'].includes(error.type ?? ''),
      );
    });

  const ends: readonly (readonly [string, EndFields, Refusal])[] = [
    ['several-volumes', { disk: 1 }, ['UnsupportedFormat', /one of several volumes/]],
    [
      'too-many-records',
      { records: 60_000 },
      ['UnsupportedFormat', /60000 entries in a directory of \d+ bytes/],
    ],
    ['records-that-are-not-there', { records: 2 }, ['ImageInvalid', /no record number 2 of 2/]],
    [
      'records-that-are-not-counted',
      { records: 0 },
      ['ImageInvalid', /directory has \d+ bytes, its 0 records have 0/],
    ],
    ['volume-count-differs', { onDisk: 3 }, ['ImageInvalid', /counts 1 entries and 3 on its only volume/]],
    ['directory-elsewhere', { offset: 0 }, ['ImageInvalid', /directory ends at \d+ by its end record/]],
    ['directory-of-4-GiB', { length: 0xfffffffe }, ['UnsupportedFormat', /directory of 4294967294 bytes/]],
    ['64-bit-without-locator', { offset: 0xffffffff }, ['ImageInvalid', /no locator of it/]],
  ];
  for (const [trick, end, refused] of ends) refuses(trick, one({}, end), refused);

  for (const [field, at] of [
    ['records', 32],
    ['length', 40],
    ['offset', 48],
  ] as const)
    it(`64-bit-differs in ${field} from the end record that does not need it: refused`, async () => {
      const path = `${directory()}/piped.img`;
      writeFileSync(path, content);
      const archive = infoZipOf(path);
      const record = archive.length - 98;
      archive.writeUInt8(archive.readUInt8(record + at) + 1, record + at);
      if (field === 'records') archive.writeUInt8(2, record + 24);
      await assertBoth(archive, ['ImageInvalid', new RegExp(`says \\d+ for ${field}, the 64-bit one`)]);
    });

  it('cut-short, or followed by other bytes: refused', async () => {
    const archive = zipArchive([{ content }]);
    for (let length = 4; length < archive.length; length += 1 + Math.floor(length / 9)) {
      const cut = archive.subarray(0, length);
      await assert.rejects(read(cut, true), refusal('ImageInvalid', /cut short/), `${length}`);
      await assert.rejects(read(cut, false), refusal('ImageInvalid', /cut short|no entry/), `${length}`);
    }
    await assertBoth(Buffer.concat([archive, Buffer.from('more')]), ['ImageInvalid', /other bytes follow/]);
  });

  it('stored, with its size after it: refused without ranges, read with them', async () => {
    const archive = zipArchive([
      { content, method: 0, flags: 8, local: { size: 0, compressedSize: 0, crc32: 0 } },
    ]);
    assert.equal(await read(archive, true), content.length);
    await assert.rejects(read(archive, false), refusal('UnsupportedFormat', /stored with its size after it/));
  });

  it('descriptor-lies: refused without ranges', async () => {
    const local = { size: 0, compressedSize: 0, crc32: 0 };
    const archive = zipArchive([{ content, flags: 8, local, after: Buffer.alloc(16, 7) }]);
    await assert.rejects(read(archive, false), refusal('ImageInvalid', /what comes after it says otherwise/));
  });
});
