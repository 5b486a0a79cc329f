import assert from 'node:assert/strict';
import { linkSync, lstatSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tarStream from 'tar-stream';
import { readTar, type TarEntry } from '../../../activities/image/archive/tar-reader.js';
import { makeRaw, MIB, sha256, useDirectory } from '../support/images.js';
import { refusal } from '../support/refused.js';
import {
  fileInChunks,
  gnuTar,
  inChunks,
  makeSparse,
  paxHeader,
  readArchive,
  type ReadEntry,
  tarArchive,
  tarEntry,
  tarHeader,
} from './tar.js';

describe('tar reader, against GNU tar', () => {
  const directory = useDirectory();
  const at = (name: string): string => join(directory(), name);
  /** Fits ustar only when it can be split at a slash, v7 not at all. */
  const long = `${'d'.repeat(80)}/${'e'.repeat(80)}`;
  const longer = `${'f'.repeat(200)}/${'g'.repeat(200)}/${'h'.repeat(200)}`;

  function makeTree(root: string, names: readonly string[]): void {
    mkdirSync(root);
    for (const name of names) {
      mkdirSync(join(root, name, '..'), { recursive: true });
      makeRaw(join(root, name), 10_000 + name.length, name.length);
      utimesSync(join(root, name), 1_000_000_001, 1_000_000_001);
    }
    writeFileSync(join(root, 'empty'), '', { mode: 0o4755 });
    linkSync(join(root, 'plain'), join(root, 'same'));
    symlinkSync(root.endsWith('ustar') ? 'plain' : (names.at(-1) ?? ''), join(root, 'symbolic'));
  }

  /** Every entry is as the file system has it. */
  async function assertTree(archive: string, root: string, chunk: number): Promise<void> {
    const read = await readArchive(fileInChunks(archive, chunk));
    const listed = gnuTar('-tf', archive).trim().split('\n');
    assert.deepEqual(
      read.map(({ name }) => name),
      listed,
    );
    for (const { name, type, size, mode, mtime, linkName, sha256: sum } of read) {
      const found = lstatSync(join(root, name));
      if (type === 'hardlink') {
        assert.equal(found.ino, lstatSync(join(root, linkName)).ino, name);
        continue;
      }
      const kind = found.isFile() ? 'file' : found.isDirectory() ? 'directory' : 'symlink';
      assert.deepEqual(
        [type, mode, Math.trunc(mtime)],
        [kind, found.mode & 0o7777, Math.trunc(found.mtimeMs / 1000)],
      );
      if (type === 'file') assert.deepEqual([size, sum], [found.size, sha256(join(root, name))], name);
    }
  }

  for (const { format, names } of [
    { format: 'v7', names: ['plain', 'sub/other'] },
    { format: 'ustar', names: ['plain', 'sub/other', long] },
    { format: 'oldgnu', names: ['plain', 'sub/other', long, longer] },
    { format: 'gnu', names: ['plain', 'sub/other', long, longer] },
    { format: 'posix', names: ['plain', 'sub/ötḧer', long, longer] },
  ]) {
    it(`${format}: names, links, modes, times and content`, async () => {
      const root = at(format);
      makeTree(root, names);
      gnuTar('-cf', at(`${format}.tar`), '--format', format, '-C', root, '.');
      await assertTree(at(`${format}.tar`), root, 100_000);
      await assertTree(at(`${format}.tar`), root, 333);
    });
  }

  for (const [name, options] of [
    ['old GNU', ['--format=gnu']],
    ['PAX 0.0', ['--format=posix', '--sparse-version=0.0']],
    ['PAX 0.1', ['--format=posix', '--sparse-version=0.1']],
    ['PAX 1.0', ['--format=posix', '--sparse-version=1.0']],
  ] as const) {
    const make = (file: string, root: string): string => {
      const archive = at(`${name}-${file}.tar`);
      gnuTar('-cf', archive, '--sparse', '--hole-detection=raw', ...options, '-C', root, file, 'after');
      return archive;
    };

    it(`${name}: sparse files are expanded, the entry after them is found`, async () => {
      const root = at(`sparse ${name}`);
      mkdirSync(root);
      writeFileSync(join(root, 'after'), 'after');
      const many = Array.from({ length: 90 }, (_, index) => index * 20_480 + 4096);
      for (const [file, size, offsets] of [
        ['hole-at-end', 3 * MIB, [0, MIB]],
        ['hole-at-start', 2 * MIB + 300, [2 * MIB - 400]],
        ['only-hole', 5 * MIB, []],
        ['many', 2 * MIB, many],
      ] as const) {
        makeSparse(join(root, file), size, offsets);
        const read = await readArchive(fileInChunks(make(file, root), 5000));
        assert.deepEqual(
          read.map(({ name: found, size: bytes, sha256: sum }) => [found, bytes, sum]),
          [
            [file, size, sha256(join(root, file))],
            ['after', 5, sha256(join(root, 'after'))],
          ],
        );
      }
    });

    it(`${name}: data beyond 8 GiB, without the holes before it`, async () => {
      const root = at(`large ${name}`);
      mkdirSync(root);
      writeFileSync(join(root, 'after'), 'after');
      const offset = 9 * 1024 * MIB;
      makeSparse(join(root, 'large'), offset + MIB, [offset]);
      const archive = at(`${name}-large.tar`);
      gnuTar('-cf', archive, '--sparse', ...options, '-C', root, 'large', 'after');
      const found: [number, string][] = [];
      let zeros = 0;
      for await (const entry of readTar(fileInChunks(archive))) {
        if (entry.name === 'large') assert.equal(entry.size, offset + MIB);
        for await (const extent of entry.dataExtents())
          if (extent.data.some((byte) => byte !== 0))
            found.push([extent.offset, extent.data.toString('latin1', 0, 20)]);
      }
      assert.deepEqual(found, [
        [offset, `data at ${offset};`.padEnd(20, 'x')],
        [0, 'after'],
      ]);
      for await (const entry of readTar(fileInChunks(archive)))
        for await (const piece of entry.content()) zeros += piece.length;
      assert.equal(zeros, offset + MIB + 5);
    });
  }

  it('content that is not read, or not to its end, is passed over', async () => {
    const root = at('passed');
    makeTree(root, ['plain', 'second', 'third']);
    gnuTar('-cf', at('passed.tar'), '-C', root, 'plain', 'second', 'third');
    const begun: string[] = [];
    for await (const entry of readTar(fileInChunks(at('passed.tar'), 700))) {
      if (entry.name === 'second') for await (const piece of entry.content()) if (piece.length > 0) break;
      begun.push(entry.name);
    }
    assert.deepEqual(begun, ['plain', 'second', 'third']);
  });

  it('reads what tar-stream packs', async () => {
    const pack = tarStream.pack();
    pack.entry({ name: `${'n'.repeat(150)}/ü`, mode: 0o600, mtime: new Date(5000) }, 'hello');
    pack.entry({ name: 'null', type: 'character-device' });
    pack.entry({ name: 'pipe', type: 'fifo' });
    pack.finalize();
    const read = await readArchive(pack as AsyncIterable<Buffer>);
    assert.deepEqual(
      read.map(({ name, type, size, mode, mtime }) => [name.slice(-4), type, size, mode, mtime]).slice(0, 1),
      [['nn/ü', 'file', 5, 0o600, 5]],
    );
    assert.deepEqual(
      read.slice(1).map(({ name, type }) => [name, type]),
      [
        ['null', 'character'],
        ['pipe', 'fifo'],
      ],
    );
  });
});

describe('tar reader, on archives made by hand', () => {
  const read = (...entries: readonly Buffer[]): Promise<ReadEntry[]> =>
    readArchive(inChunks(tarArchive(...entries)));

  it('base-256 sizes and times are read, a negative size is refused', async () => {
    const size = Buffer.alloc(12);
    size[0] = 0x80;
    size.writeBigUInt64BE(2n ** 40n, 4);
    const mtime = Buffer.alloc(12, 0xff);
    const entries = readTar(inChunks(tarHeader({ size, raw: [[136, mtime]] })));
    const first = (await entries.next()).value as TarEntry;
    assert.deepEqual([first.size, first.mtime], [2 ** 40, -1]);
    await assert.rejects(
      read(tarHeader({ size: Buffer.alloc(12, 0xff) })),
      refusal('ImageInvalid', /size in the tar header at 0 is -1/),
    );
    size[4] = 0x7f;
    await assert.rejects(read(tarHeader({ size })), refusal('ImageInvalid', /size .* no number of at most/));
  });

  it('global PAX records count until taken back, own ones win', async () => {
    const found = await read(
      paxHeader([['mtime', '5.25']], 'g'),
      tarEntry({ name: 'a' }),
      paxHeader([
        ['mtime', '7'],
        ['path', 'b from pax'],
        ['comment', 'path=x'],
      ]),
      tarEntry({ name: 'b' }),
      paxHeader([['mtime', '']]),
      tarEntry({ name: 'c' }),
    );
    assert.deepEqual(
      found.map(({ name, mtime }) => [name, mtime]),
      [
        ['a', 5.25],
        ['b from pax', 7],
        ['c', 1_000_000_000],
      ],
    );
  });

  it('PAX headers may count the zeros behind their records', async () => {
    const padded = tarEntry({ name: 'pax', type: 'x' }, `9 path=b\n${'\0'.repeat(503)}`);
    const [found] = await read(padded, tarEntry({ name: 'a' }));
    assert.equal(found?.name, 'b');
  });

  it('says what comes after the end, and a missing end marker', async () => {
    const said: string[] = [];
    const names = async (bytes: Buffer): Promise<number> => {
      let count = 0;
      for await (const _ of readTar(inChunks(bytes), { notice: (message) => said.push(message) })) count += 1;
      return count;
    };
    const archive = tarArchive(tarEntry({}, 'x'));
    assert.equal(await names(Buffer.concat([archive, Buffer.alloc(9216)])), 1);
    assert.deepEqual(said, []);
    assert.equal(await names(Buffer.concat([archive, Buffer.alloc(2000), Buffer.from('more')])), 1);
    assert.equal(await names(archive.subarray(0, 1024)), 1);
    assert.deepEqual(said, [
      'tar archive is followed by 2004 bytes that are no padding: ignored',
      'tar archive has no end marker: it ends after an entry',
    ]);
  });
});
