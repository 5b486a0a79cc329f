import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { makeRaw, MIB, useDirectory } from '../support/images.js';
import { fileInChunks, gnuTar, inChunks, makeSparse, paxHeader, tarArchive, tarEntry } from './tar.js';
import { assertSameTree, listTree, unpackByGnu, unpackInto, type Tolerance } from './tree.js';

describe('unpacking an archive, next to GNU tar', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  const at = (name: string): string => join(directory(), name);
  let count = 0;
  /** A path that nothing has yet. */
  const fresh = (): string => at(`new-${(count += 1)}`);

  async function assertLikeGnu(archive: string, tolerance: Partial<Tolerance> = {}): Promise<string> {
    const since = new Date();
    const [ours, gnus] = [fresh(), fresh()];
    unpackByGnu(archive, gnus);
    await unpackInto(ours, fileInChunks(archive));
    assertSameTree(listTree(ours), listTree(gnus), { since, ...tolerance });
    return ours;
  }

  function write(...entries: readonly Buffer[]): string {
    const path = fresh();
    writeFileSync(path, tarArchive(...entries));
    return path;
  }

  /** A tree with files, links and modes of every kind. */
  function makeTree(): string {
    const root = fresh();
    mkdirSync(join(root, 'etc/empty'), { recursive: true });
    mkdirSync(join(root, 'tmp'));
    makeRaw(join(root, 'etc/disk'), 3 * MIB + 17);
    const files = {
      plain: 0o644,
      run: 0o755,
      secret: 0o600,
      setuid: 0o4755,
      setgid: 0o2755,
      none: 0,
      'a\nb\\': 0o640,
    };
    for (const [name, mode] of Object.entries(files)) {
      writeFileSync(join(root, 'etc', name), `content of ${name}`.repeat(100));
      chmodSync(join(root, 'etc', name), mode);
    }
    writeFileSync(join(root, 'zero'), '');
    symlinkSync('etc/plain', join(root, 'link'));
    symlinkSync('../../zero', join(root, 'etc/empty/up'));
    symlinkSync('nowhere', join(root, 'dangling'));
    linkSync(join(root, 'etc/plain'), join(root, 'tmp/hard'));
    linkSync(join(root, 'link'), join(root, 'second-link'));
    utimesSync(join(root, 'zero'), 1, 1_234_567_890.123_456);
    utimesSync(join(root, 'etc/plain'), 1, 0);
    utimesSync(join(root, 'etc/empty'), 1, 1_000_000_000);
    chmodSync(join(root, 'etc/empty'), 0o2750);
    chmodSync(join(root, 'tmp'), 0o1777);
    chmodSync(join(root, 'etc'), 0o555);
    return root;
  }

  it('reads no data behind directories and links, whatever their size says', async () => {
    const archive = write(
      tarEntry({ name: 'd/', type: '5', size: 4096 }),
      tarEntry({ name: 'd/link', type: '2', link: 'file', size: 1 }),
      tarEntry({ name: 'd/file' }, 'content'),
    );
    await assertLikeGnu(archive);
  });

  for (const version of ['0.0', '0.1'])
    it(`reads a sparse map of 20 000 stretches, GNU sparse format ${version}`, async () => {
      const source = makeSparse(
        fresh(),
        20_000 * 8192,
        Array.from({ length: 20_000 }, (_, index) => index * 8192),
      );
      const archive = fresh();
      gnuTar(
        '-cf',
        archive,
        '--format=pax',
        '--sparse',
        `--sparse-version=${version}`,
        '-C',
        directory(),
        basename(source),
      );
      await assertLikeGnu(archive);
    });

  for (const format of ['v7', 'oldgnu', 'gnu', 'ustar', 'pax'])
    it(`makes the same tree from the format ${format}, its root and times too`, async () => {
      const archive = fresh();
      const root = makeTree();
      chmodSync(root, 0o710);
      // only root can read a file of mode 0
      if (process.getuid?.() !== 0) chmodSync(join(root, 'etc/none'), 0o400);
      gnuTar('-c', '-f', archive, `--format=${format}`, '-C', root, '.');
      const ours = await assertLikeGnu(archive);
      assert.equal(statSync(join(ours, 'etc/plain')).mtimeMs, 0.0005);
    });

  it('makes names of any bytes and of any length', async () => {
    const root = fresh();
    mkdirSync(root);
    const deep = `${'d'.repeat(200)}/${'e'.repeat(255)}/f`;
    mkdirSync(join(root, deep), { recursive: true });
    writeFileSync(join(root, deep, 'x'.repeat(255)), 'long');
    for (const name of ['caf\xe9', '\xff\xfe', '\xc3\x28', '\x01\x1b[31m', '-rf', '...', ' ', 'é'])
      writeFileSync(Buffer.from(`${root}/${name}`, 'latin1'), name);
    for (const format of ['gnu', 'pax']) {
      const archive = fresh();
      gnuTar('-c', '-f', archive, `--format=${format}`, '-C', root, '.');
      await assertLikeGnu(archive);
    }
  });

  for (const kind of [['gnu'], ['pax', '0.0'], ['pax', '0.1'], ['pax', '1.0']] as const)
    it(`keeps the holes of sparse files in the format ${kind.join(' ')}`, async () => {
      const [format, version] = kind;
      const root = fresh();
      mkdirSync(root);
      makeSparse(join(root, 'middle'), 9 * MIB, [5 * MIB, 6 * MIB + 511]);
      makeSparse(join(root, 'ends'), 8 * MIB, [0, 8 * MIB - 700]);
      makeSparse(join(root, 'hole'), 7 * MIB, []);
      makeSparse(
        join(root, 'many'),
        50 * MIB,
        Array.from({ length: 40 }, (_, index) => index * MIB),
      );
      const archive = fresh();
      const sparse = version ? ['-S', `--sparse-version=${version}`] : ['-S'];
      gnuTar('-c', '-f', archive, `--format=${format}`, ...sparse, '-C', root, '.');
      const ours = await assertLikeGnu(archive);
      assert.ok(statSync(join(ours, 'hole')).blocks < 8);
    });

  it('fills directories that their owner may not write to, and gives them their mode and time afterwards', async () => {
    const modes = [0o555, 0o500, 0o000, 0o111];
    const entries = modes.flatMap((mode) => [
      tarEntry({ name: `d${mode}/`, type: '5', mode }),
      tarEntry({ name: `d${mode}/inner/`, type: '5', mode }),
      tarEntry({ name: `d${mode}/inner/file`, mode }, 'content'),
      tarEntry({ name: `d${mode}/file` }, 'content'),
    ]);
    await assertLikeGnu(write(...entries));
  });

  it('gives a directory its time although more goes into it after others', async () => {
    const entries = [
      tarEntry({ name: 'a/', type: '5', mode: 0o555 }),
      tarEntry({ name: 'a/1' }, '1'),
      tarEntry({ name: 'b/', type: '5' }),
      tarEntry({ name: 'a/2' }, '2'),
      tarEntry({ name: 'b/hard', type: '1', link: 'a/1' }),
    ];
    const ours = fresh();
    await unpackInto(ours, inChunks(tarArchive(...entries)));
    const { mode, mtimeMs } = statSync(join(ours, 'a'));
    assert.deepEqual([mode & 0o7777, Math.floor(mtimeMs)], [0o555, 1_000_000_000_000]);
    assert.deepEqual(readdirSync(join(ours, 'a')), ['1', '2']);
    assert.equal(statSync(join(ours, 'b/hard')).ino, statSync(join(ours, 'a/1')).ino);
  });

  it('lets what comes again replace: file, link, directory', async () => {
    const directoryEntry = tarEntry({ name: 'x/', type: '5', mode: 0o750 });
    const file = tarEntry({ name: 'x', mode: 0o4711 }, 'file');
    const link = tarEntry({ name: 'x', type: '2', link: 'y' });
    const other = tarEntry({ name: 'y' }, 'other');
    const kinds = [file, tarEntry({ name: 'x', mode: 0o600 }, 'shorter'), link, directoryEntry];
    for (const first of kinds) for (const second of kinds) await assertLikeGnu(write(other, first, second));
    // the second name keeps what it has
    await assertLikeGnu(
      write(other, tarEntry({ name: 'z', type: '1', link: 'y' }), tarEntry({ name: 'y' }, 'new')),
    );
    await assertLikeGnu(write(other, tarEntry({ name: 'y', type: '1', link: 'y' })));
    await assertLikeGnu(
      write(directoryEntry, tarEntry({ name: 'x/1' }), tarEntry({ name: 'x', type: '5', mode: 0o711 })),
    );
  });

  it('makes directories that the archive does not name, as the umask wants them', async () => {
    const before = process.umask(0o027);
    try {
      await assertLikeGnu(
        write(tarEntry({ name: 'a/b/c' }, 'x'), tarEntry({ name: 'a//./d/', type: '5', mode: 0o777 })),
      );
    } finally {
      process.umask(before);
    }
  });

  it('takes slashes and dots in names as they are meant', async () => {
    await assertLikeGnu(
      write(
        tarEntry({ name: './', type: '5', mode: 0o700 }),
        tarEntry({ name: './a/', type: '0' }),
        tarEntry({ name: 'a//b/./c', mode: 0o600 }, 'c'),
        tarEntry({ name: 'e///', type: '5', mode: 0o711 }),
        tarEntry({ name: './link/', type: '2', link: 'a//b/./c' }),
        tarEntry({ name: 'h', type: '1', link: './a/./b//c' }),
      ),
      // GNU tar thinks that the root is done when a name does not begin with ./
      { mtimeNs: Infinity },
    );
  });

  it('absolute-name: takes the slash away, and says so once', async () => {
    const said: string[] = [];
    const ours = fresh();
    const entries = ['/a/1', '//a/2', 'a/3'].map((name) => tarEntry({ name }, name));
    await unpackInto(ours, inChunks(tarArchive(...entries)), {
      notice: (message) => void said.push(message),
    });
    assert.deepEqual(readdirSync(join(ours, 'a')), ['1', '2', '3']);
    assert.deepEqual(said, ["leading '/' is taken away from names, first from '/a/1'"]);
  });

  it('keeps times before 1970, to the millisecond, and those beyond the file system like GNU tar', async () => {
    const times = ['-1', '-123456789.25', '-3000000000', '0.5', '4000000000.75', '99999999999'];
    const entries = times.flatMap((mtime, index) => [
      paxHeader([['mtime', mtime]]),
      tarEntry({ name: `./f${index}` }),
      paxHeader([['mtime', mtime]]),
      tarEntry({ name: `./d${index}/`, type: '5' }),
      paxHeader([['mtime', mtime]]),
      tarEntry({ name: `./l${index}`, type: '2', link: 'x' }),
    ]);
    await assertLikeGnu(write(tarEntry({ name: './', type: '5' }), ...entries), {
      since: new Date(8e15),
      mtimeNs: 1_000_000,
    });
  });

  it('makes nothing from an archive without an entry, and removes what was there', async () => {
    const archive = fresh();
    gnuTar('-c', '-f', archive, '-T', '/dev/null');
    const ours = fresh();
    mkdirSync(join(ours, 'old/deep'), { recursive: true });
    writeFileSync(join(ours, 'old/deep/file'), 'x');
    chmodSync(join(ours, 'old'), 0o555);
    chmodSync(ours, 0o555);
    assert.deepEqual(await unpackInto(ours, fileInChunks(archive)), { entries: 0, bytes: 0 });
    assert.deepEqual(readdirSync(ours), []);
  });

  it('makes ten thousand small files in a hundred directories', async () => {
    const root = fresh();
    for (let index = 0; index < 10_000; index += 1) {
      if (index % 100 === 0) mkdirSync(join(root, `${index / 100}`), { recursive: true });
      writeFileSync(join(root, `${Math.floor(index / 100)}`, `${index}`), `${index}`);
    }
    const archive = fresh();
    gnuTar('-c', '-f', archive, '-C', root, '.');
    await assertLikeGnu(archive);
  });

  it('counts entries and bytes of data, and tells each that is written', async () => {
    const told: number[] = [];
    const unpacked = await unpackInto(
      fresh(),
      inChunks(
        tarArchive(
          tarEntry({ name: 'a' }, 'abc'),
          tarEntry({ name: 'b' }, 'de'),
          tarEntry({ name: 'c/', type: '5' }),
        ),
      ),
      { onProgress: (bytes) => void told.push(bytes) },
    );
    assert.deepEqual(unpacked, { entries: 3, bytes: 5 });
    assert.deepEqual(told, [3, 5]);
  });

  it('empties a volume however deep it is, and whatever its names', async () => {
    const target = fresh();
    mkdirSync(target);
    // deeper than one path can say, and than descriptors would last
    const deeper =
      "const fs = require('fs'); for (let i = 0; i < 3000; i += 1) { fs.mkdirSync('dddd'); process.chdir('dddd'); fs.writeFileSync('f', ''); }";
    execFileSync(process.execPath, ['-e', deeper], { cwd: target });
    writeFileSync(Buffer.from(`${target}/\xff\xfe`, 'latin1'), 'x');
    mkdirSync(join(target, 'lost+found'));
    writeFileSync(join(target, 'lost+found/kept'), 'kept');
    await unpackInto(target, inChunks(tarArchive(tarEntry({ name: 'new' }, 'new'))));
    assert.deepEqual(readdirSync(target).toSorted(), ['lost+found', 'new']);
    assert.equal(readFileSync(join(target, 'lost+found/kept'), 'utf8'), 'kept');
  });

  it('takes the lost+found of another volume for none of its own', async () => {
    const target = fresh();
    const entries = [
      tarEntry({ name: './lost+found/', type: '5', mode: 0o700 }),
      tarEntry({ name: './a' }, 'a'),
    ];
    await unpackInto(target, inChunks(tarArchive(...entries)));
    assert.deepEqual(readdirSync(target), ['a']);
  });
});
