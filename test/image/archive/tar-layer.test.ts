import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openTarLayer } from '../../../activities/image/archive/tar-layer.js';
import { RangesLostError, type ImageSource } from '../../../activities/image/source/types.js';
import { createFileSource } from '../support/file-source.js';
import { makeRaw, MIB, useDirectory } from '../support/images.js';
import { refusal } from '../support/refused.js';
import { gather, gnuTar, makeSparse, tarArchive, tarEntry } from './tar.js';

/** How a layer is read, both ways. */
const WAYS = [
  { way: 'behind ranges', ranges: true },
  { way: 'from a stream', ranges: false },
];

describe('tar around a disk image', () => {
  const directory = useDirectory();
  const at = (name: string): string => join(directory(), name);
  const write = (name: string, bytes: Buffer): string => (writeFileSync(at(name), bytes), at(name));

  /** The source counts what is read beyond its own probe. */
  async function open(
    archive: string,
    options: Parameters<typeof createFileSource>[1] = {},
  ): Promise<{ image: ImageSource; inner: ImageSource; ended: () => number }> {
    const file = createFileSource(archive, options);
    let ended = 0;
    const inner: ImageSource = {
      ...file,
      async *stream(start) {
        yield* file.stream(start);
        ended += 1;
      },
      get bytesRead() {
        return file.bytesRead;
      },
    };
    return { image: await openTarLayer(inner), inner, ended: () => ended };
  }

  /** The image is the file, whichever way it is asked for. */
  async function assertImage(image: ImageSource, path: string): Promise<void> {
    const expected = readFileSync(path);
    const { head, validators, ranges, seekable } = await image.probe();
    // a stream shows as much as lies in the archive's own head
    if (ranges) assert.equal(head.length, Math.min(MIB, expected.length));
    else assert.ok(head.length > Math.min(MIB, expected.length) - 64 * 1024, `head of ${head.length}`);
    assert.ok(head.equals(expected.subarray(0, head.length)), 'head');
    assert.equal(validators.length, expected.length);
    assert.equal(validators.etag, '"v1"');
    assert.ok((await gather(image.stream(0))).equals(expected), 'stream from 0');
    const middle = Math.floor(expected.length / 3) + 7;
    assert.ok(
      (await gather(image.stream(middle))).equals(expected.subarray(middle)),
      `stream from ${middle}`,
    );
    assert.equal(ranges, seekable);
    if (!ranges) return;
    const shared = new Uint8Array(new SharedArrayBuffer(300_000));
    for (let start = 0; start < expected.length; start += 77_777) {
      const target = shared.subarray(0, Math.min(1 + ((start * 13) % 300_000), expected.length - start));
      shared.fill(0xee);
      await image.readInto(start, target);
      assert.ok(expected.subarray(start, start + target.length).equals(target), `${start}+${target.length}`);
    }
  }

  for (const { way, ranges } of WAYS) {
    it(`${way}: a dense file among directories and macOS' own files`, async () => {
      const root = at(`dense ${ranges}`);
      mkdirSync(join(root, 'disks'), { recursive: true });
      const disk = makeRaw(join(root, 'disks/disk.img'), 3 * MIB + 5);
      writeFileSync(join(root, '._disks'), 'resource fork');
      writeFileSync(join(root, 'disks/._disk.img'), 'resource fork');
      writeFileSync(join(root, 'disks/empty'), '');
      gnuTar('-cf', at('dense.tar'), '--sort=name', '--format=posix', '-C', root, '.');
      const { image, ended } = await open(at('dense.tar'), { ranges });
      await assertImage(image, disk);
      assert.equal(ended(), 2, 'the archive is read to its end each time');
    });

    for (const options of [
      ['--format=gnu'],
      ['--format=posix', '--sparse-version=0.0'],
      ['--format=posix', '--sparse-version=0.1'],
      ['--format=posix', '--sparse-version=1.0'],
    ]) {
      it(`${way}: a sparse file, ${options.join(' ')}`, async () => {
        const offsets = Array.from({ length: 400 }, (_, index) => index * 9 * 1024 + (index % 7) * 512);
        for (const [name, size, data] of [
          ['many', 5 * MIB + 100, offsets],
          ['late', 4 * MIB, [3 * MIB, 3 * MIB + 512]],
          ['none', 2 * MIB, []],
        ] as const) {
          const disk = makeSparse(at(name), size, data);
          gnuTar('-cf', at('s.tar'), '-S', '--hole-detection=raw', ...options, '-C', directory(), name);
          const { image } = await open(at('s.tar'), { ranges });
          await assertImage(image, disk);
        }
      });
    }

    it(`${way}: a name longer than a header, and no end marker`, async () => {
      const name = `${'n'.repeat(120)}/${'m'.repeat(200)}`;
      mkdirSync(at(name.slice(0, 120)), { recursive: true });
      const disk = makeRaw(at(name), 20_000);
      for (const format of ['gnu', 'posix']) {
        gnuTar('-cf', at('long.tar'), `--format=${format}`, '-C', directory(), name);
        await assertImage((await open(at('long.tar'), { ranges })).image, disk);
      }
      write('unmarked.tar', tarEntry({ name: 'disk' }, readFileSync(disk)));
      await assertImage((await open(at('unmarked.tar'), { ranges })).image, disk);
    });

    it(`${way}: none, links, devices, '..' and endless entries are refused by name`, async () => {
      const cases: readonly (readonly [Buffer, string, RegExp])[] = [
        [
          tarEntry({ type: '5', name: 'd/' }),
          'ImageInvalid',
          /no disk image: none of its 1 entries is a file/,
        ],
        [Buffer.alloc(0), 'ImageInvalid', /none of its 0 entries/],
        [tarEntry({ name: '._x' }, 'x'), 'ImageInvalid', /none of its 1 entries/],
        [
          tarEntry({ type: '2', link: '/etc/passwd' }),
          'ImageHostile',
          /'file' is a symlink to '\/etc\/passwd'/,
        ],
        [tarEntry({ type: '1', link: '../x' }), 'ImageHostile', /'file' is a hardlink to '..\/x'/],
        [tarEntry({ type: '3' }), 'ImageHostile', /'file' is a character device/],
        [tarEntry({ type: '4' }), 'ImageHostile', /'file' is a block device/],
        [tarEntry({ type: '6' }), 'ImageHostile', /'file' is a FIFO/],
        [tarEntry({ name: 'a/../../disk' }, 'x'), 'ImageHostile', /'a\/..\/..\/disk' leads out/],
        [tarEntry({ type: 'M' }, 'x'), 'UnsupportedFormat', /'file' is of type 'M'/],
        [
          Buffer.concat(Array.from({ length: 1001 }, () => tarEntry({ type: '5', name: 'd/' }))),
          'UnsupportedFormat',
          /more than 1000 entries/,
        ],
      ];
      for (const [entries, type, message] of cases) {
        const archive = write('refused.tar', tarArchive(entries));
        const opening = async (): Promise<unknown> => (await open(archive, { ranges })).image.probe();
        await assert.rejects(opening(), refusal(type, message), String(message));
      }
    });
  }

  it('behind ranges: little but the image is read, and nothing of it twice', async () => {
    const disk = makeRaw(at('once'), 20 * MIB);
    gnuTar('-cf', at('once.tar'), '-C', directory(), 'once');
    const { image, inner } = await open(at('once.tar'));
    await image.probe();
    assert.ok(inner.bytesRead <= MIB + 65_536, `${inner.bytesRead} bytes to find the image`);
    const target = Buffer.alloc(20 * MIB);
    await image.readInto(0, target);
    assert.ok(target.equals(readFileSync(disk)));
    assert.ok(inner.bytesRead < 20 * MIB + 65_536, `${inner.bytesRead} bytes for all of it`);
  });

  it('from a stream: what the probe read is not read again', async () => {
    makeRaw(at('twice'), 5 * MIB);
    gnuTar('-cf', at('twice.tar'), '-C', directory(), 'twice');
    const { image, inner } = await open(at('twice.tar'), { ranges: false });
    await image.probe();
    assert.equal((await gather(image.stream(0))).length, 5 * MIB);
    assert.equal(inner.bytesRead, MIB + statSync(at('twice.tar')).size);
  });

  it('two-files: refused at once behind ranges, at the end of a stream', async () => {
    const archive = write(
      'two.tar',
      tarArchive(
        tarEntry({ name: 'disk.img' }, Buffer.alloc(3 * MIB, 1)),
        tarEntry({ name: 'b/other' }, 'x'),
      ),
    );
    const refused = refusal('UnsupportedFormat', /more than one file: 'disk.img' and 'b\/other'/);
    await assert.rejects(open(archive), refused);
    const { image } = await open(archive, { ranges: false });
    await image.probe();
    await assert.rejects(gather(image.stream(0)), refused);
  });

  it('cut-short: refused before the content is read where the length is known, else at the end', async () => {
    makeRaw(at('cut'), 4 * MIB);
    gnuTar('-cf', at('cut.tar'), '-C', directory(), 'cut');
    truncateSync(at('cut.tar'), 3 * MIB);
    const refused = refusal('ImageInvalid', /tar archive is cut short: .*'cut'/);
    const refusedThere = refusal('ImageInvalid', /cut short: it ends after 3145728 bytes, inside 'cut'/);
    await assert.rejects(open(at('cut.tar')), refusedThere);
    const { image } = await open(at('cut.tar'), { ranges: false });
    await assert.rejects(image.probe(), refused);
    const unknown = (await open(at('cut.tar'), { ranges: false, length: false })).image;
    await unknown.probe();
    await assert.rejects(gather(unknown.stream(0)), refusedThere);
  });

  it('ranges that are lost on the way leave a stream', async () => {
    const disk = makeRaw(at('lost'), 3 * MIB);
    gnuTar('-cf', at('lost.tar'), '-C', directory(), 'lost');
    const { image } = await open(at('lost.tar'), { loseRangesAfter: 0 });
    assert.equal((await image.probe()).ranges, false);
    await assertImage(image, disk);
    const later = (await open(at('lost.tar'), { loseRangesAfter: MIB + 65_536 })).image;
    await later.readInto(2 * MIB, Buffer.alloc(100_000));
    await assert.rejects(later.readInto(2 * MIB, Buffer.alloc(10)), RangesLostError);
    assert.ok((await gather(later.stream(0))).equals(readFileSync(disk)));
  });

  it('headers-without-end: behind ranges, the reads are counted', async () => {
    const extra = Array.from({ length: 99 }, () => tarEntry({ type: 'K' }, Buffer.alloc(60_000, 'k')));
    const cycle = Buffer.concat([...extra, tarEntry({ name: '._x' }, 'x')]);
    const endless = (start: number, target: Uint8Array): void => {
      for (let filled = 0; filled < target.length;) {
        const from = (start + filled) % cycle.length;
        const piece = cycle.subarray(from, from + target.length - filled);
        target.set(piece, filled);
        filled += piece.length;
      }
    };
    const head = Buffer.alloc(MIB);
    endless(0, head);
    let reads = 0;
    const inner: ImageSource = {
      probe: async () => ({
        displayUrl: 'endless',
        ranges: true,
        seekable: true,
        validators: { length: 2 ** 50 },
        head,
      }),
      stream: () => assert.fail('streamed'),
      readInto: async (start, target) => (endless(start, target), void (reads += 1)),
      bytesRead: 0,
      close: () => undefined,
    };
    await assert.rejects(openTarLayer(inner), refusal('ImageHostile', /more than 1024 reads/));
    assert.equal(reads, 1024);
  });

  it('symbolic links of GNU tar are refused too', async () => {
    symlinkSync('/dev/sda', at('link'));
    gnuTar('-cf', at('link.tar'), '-C', directory(), 'link');
    await assert.rejects(
      open(at('link.tar')),
      refusal('ImageHostile', /'link' is a symlink to '\/dev\/sda'/),
    );
  });

  it('a terabyte of holes lets timers and cancels have their turn', async () => {
    writeFileSync(at('holes.img'), '');
    truncateSync(at('holes.img'), 1024 ** 4);
    gnuTar('--sparse', '-cf', at('holes.tar'), '-C', directory(), 'holes.img');
    const { image } = await open(at('holes.tar'));
    let turned = false;
    setImmediate(() => (turned = true));
    const window = new Uint8Array(8 * MIB);
    for (let start = 0; !turned && start < 512 * window.length; start += window.length)
      await image.readInto(start, window);
    assert.ok(turned, 'nothing else had its turn');
  });
});
