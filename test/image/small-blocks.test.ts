import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { openXz } from '../../activities/image/layers/xz.js';
import { convertFile } from './support/convert.js';
import { createFileSource } from './support/file-source.js';
import { makePatterned, MIB, qemuImg, useDirectory } from './support/images.js';
import { assertRefused } from './support/refused.js';
import { converted, piped } from './support/ways.js';

/** Blocks of xz that are smaller than what a reader gathers: their memory is used again while it still does. */
describe('xz of blocks that are smaller than what is read of them at once', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  let raw = '';
  before(() => (raw = makePatterned(`${directory()}/disk.raw`, 9)));

  async function assertReads(image: string): Promise<void> {
    const target = `${image}.out`;
    const { virtualSize } = await convertFile(image, target, { usableBytes: 9 * MIB });
    assert.equal(virtualSize, 9 * MIB);
    assert.ok(readFileSync(target).equals(readFileSync(raw)), 'another disk');
  }

  for (const block of ['16KiB', '100KiB', '700KiB', '1100KiB'])
    it(`a qcow2 with clusters of 2 MiB, in blocks of ${block}`, async () => {
      const image = `${directory()}/clusters-${block}.xz`;
      piped(`xz -0 -T1 --block-size=${block}`, converted('qcow2', '-o', 'cluster_size=2M'))(raw, image);
      await assertReads(image);
    });

  const withDictionary = (mebibytes: number): string => {
    const image = `${directory()}/dictionary-${mebibytes}.xz`;
    piped(`xz -T1 --lzma2=preset=0,dict=${mebibytes}MiB --block-size=3MiB`)(raw, image);
    return image;
  };

  it('with a dictionary that is larger than any preset has', async () =>
    await assertReads(withDictionary(128)));

  it('with one that nobody has memory for', async () => {
    const options = { usableBytes: 9 * MIB };
    const target = `${directory()}/none`;
    await assertRefused(withDictionary(192), target, options, 'UnsupportedFormat', /smaller dictionary/);
  });

  it('in more streams than are counted', async () => {
    const [part, image] = [`${directory()}/part.raw`, `${directory()}/streams.xz`];
    const bytes = Buffer.from('0123456789abcdef'.repeat(32));
    writeFileSync(part, bytes);
    const stream = execFileSync('xz', ['-c', part]);
    writeFileSync(image, Buffer.concat(Array<Buffer>(10_001).fill(stream)));
    const { virtualSize } = await convertFile(image, `${image}.out`, { usableBytes: 9 * MIB });
    assert.equal(virtualSize, 10_001 * 512);
    assert.ok(readFileSync(`${image}.out`).subarray(0, virtualSize).equals(Buffer.alloc(virtualSize, bytes)));
  });

  describe('are fetched', () => {
    /** Reads a file from an offset on as its blocks say; the ranges that were asked for, after the index. */
    async function assertFetched(image: string, want: Buffer, start = 0): Promise<number> {
      const source = createFileSource(image);
      let requests = 0;
      const readInto = (at: number, target: Uint8Array): Promise<void> => {
        requests += 1;
        return source.readInto(at, target);
      };
      const xz = await openXz({ ...source, readInto });
      const indexRequests = requests;
      const pieces: Buffer[] = [];
      for await (const piece of xz.stream(start)) pieces.push(Buffer.from(piece));
      source.close();
      assert.ok(Buffer.concat(pieces).equals(want.subarray(start)), 'other bytes');
      return requests - indexRequests;
    }
    let noise: Buffer;
    before(() => {
      noise = randomBytes(11 * MIB + 7);
      writeFileSync(`${directory()}/noise.raw`, noise);
    });
    const packed = (name: string, options: string): string => {
      const image = `${directory()}/${name}.xz`;
      piped(`xz -0 -T1 ${options}`)(`${directory()}/noise.raw`, image);
      return image;
    };

    it('many at once', async () => {
      const image = packed('even', '--block-size=40KiB');
      assert.ok((await assertFetched(image, noise)) <= 3);
      assert.ok((await assertFetched(image, noise, 8 * MIB + 3)) <= 1);
    });

    it('many at once, in streams of their own', async () => {
      const image = `${directory()}/streams.xz`;
      const small = noise.subarray(0, 4 * MIB);
      const streams = Array.from({ length: 40 }, (_, index) =>
        execFileSync('xz', ['-0c'], { input: small.subarray(index * 100_000, (index + 1) * 100_000) }),
      );
      writeFileSync(image, Buffer.concat(streams));
      assert.ok((await assertFetched(image, small.subarray(0, 4_000_000))) <= 2);
    });

    it('between large ones', async () => {
      const sizes = [
        ...Array<string>(30).fill('50KiB'),
        '2500KiB',
        '9KiB',
        '2500KiB',
        '2500KiB',
        '1MiB',
        '8KiB',
      ];
      const image = packed('odd', `--block-list=${sizes.join(',')},100KiB`);
      assert.ok((await assertFetched(image, noise)) <= 8);
    });
  });

  for (const [name, pack] of [
    ['tar', 'tar -cf - disk.qcow2'],
    ['gz', 'gzip -1c disk.qcow2'],
    ['zip', 'zip -q1 - disk.qcow2'],
  ] as const)
    it(`a qcow2 in ${name}, whose beginning is looked at`, async () => {
      const image = `${directory()}/${name}.xz`;
      qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, `${directory()}/disk.qcow2`);
      const script = `${pack} | xz -0 -T1 --block-size=4KiB > "$1"`;
      execFileSync('sh', ['-c', script, 'sh', image], { cwd: directory(), stdio: 'pipe' });
      await assertReads(image);
    });
});
