import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { convertFile } from './support/convert.js';
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
