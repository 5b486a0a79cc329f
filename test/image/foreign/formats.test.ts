import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { findFixedVhd } from '../../../activities/image/formats/foreign/vhd.js';
import { failureTypeOf } from '../../../activities/failures.js';
import { itIf } from '../../support/breadth.js';
import { createFileSource, type FileSourceOptions } from '../support/file-source.js';
import { makeRaw, MIB, qemuImg, useDirectory } from '../support/images.js';
import { assertRefused, assertSameDisk, copyFile, KINDS, parseFile } from './support.js';

const SIZE = 24 * MIB + 512;

describe('foreign formats', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  let raw = '';
  before(() => (raw = makeRaw(`${directory()}/disk.raw`, SIZE, 5)));

  for (const [index, kind] of KINDS.entries())
    describe(kind.name, () => {
      let image = '';
      let bytesRead = 0;
      const target = (): string => `${directory()}/${index}.target`;
      before(() => kind.make(raw, (image = `${directory()}/${index}.image`)));
      after(() => [image, target()].forEach((path) => rmSync(path, { force: true })));

      it('is described as qemu-img describes it', async () => {
        const parsed = await parseFile(kind.format, image);
        const info = JSON.parse(qemuImg('info', '--output=json', '-f', kind.driver, image)) as Record<
          string,
          unknown
        >;
        assert.equal(parsed.virtualSize, info['virtual-size']);
        assert.deepEqual([parsed.format, parsed.subformat], [kind.format, kind.subformat]);
      });

      it('is copied as qemu-img reads it', async () => {
        ({ bytesRead } = await copyFile(kind.format, image, target()));
        assertSameDisk(target(), image, kind.driver);
      });

      itIf(index % 3 === 0)('goes on where a failure left it, with the failure of the source', async () => {
        rmSync(target(), { force: true });
        const durable: number[] = [];
        const failing = { recordEvery: 7, failAfter: Math.floor(bytesRead * 0.8) };
        await assert.rejects(copyFile(kind.format, image, target(), failing, durable), (error) => {
          assert.equal(failureTypeOf(error), 'SourceUnavailable', String(error));
          assert.match(String(error), /the file source was told to fail/);
          return true;
        });
        const completed = durable.at(-1) ?? 0;
        assert.ok(completed > 0, 'something was durable');
        const offsets: number[] = [];
        await copyFile(kind.format, image, target(), { completed, onCheckpoint: (at) => offsets.push(at) });
        assert.ok(Math.min(...offsets) > completed - 64 * 1024, 'it did not begin again');
        assertSameDisk(target(), image, kind.driver);
      });
    });

  for (const kind of KINDS)
    for (const bytes of [80_384, 987_136])
      it(`a small one is read: ${kind.name} of ${bytes} bytes`, async () => {
        const small = makeRaw(`${directory()}/small.raw`, bytes, 3);
        const [image, target] = [`${directory()}/small.image`, `${directory()}/small.target`];
        rmSync(target, { force: true });
        kind.make(small, image);
        await copyFile(kind.format, image, target);
        assertSameDisk(target, image, kind.driver);
      });

  for (const sectors of [24, 96])
    it(`a VMDK may have grains of ${sectors} sectors`, async () => {
      const [image, target] = [`${directory()}/grains.vmdk`, `${directory()}/grains-${sectors}`];
      const small = makeRaw(`${directory()}/grains.raw`, 4 * MIB, 3);
      qemuImg('convert', '-f', 'raw', '-O', 'vmdk', small, image);
      // the first sectors of each grain are the next ones of the disk then
      const content = readFileSync(image);
      content.writeBigUInt64LE(BigInt(sectors), 20);
      writeFileSync(image, content);
      await copyFile('vmdk', image, target);
      assertSameDisk(target, image, 'vmdk');
    });

  it('has nothing to do where all is done', async () => {
    const image = `${directory()}/done.vdi`;
    qemuImg('convert', '-f', 'raw', '-O', 'vdi', raw, image);
    const sandbox = { run: () => assert.fail('nothing is run') };
    await copyFile('vdi', image, `${directory()}/done`, { completed: SIZE, sandbox });
  });

  it('copies an empty disk', async () => {
    const image = `${directory()}/empty.vdi`;
    qemuImg('create', '-f', 'vdi', image, '0');
    await copyFile('vdi', image, `${directory()}/empty`);
    assert.equal(readFileSync(`${directory()}/empty`).length, 0);
  });

  describe('VHD fixed', () => {
    const find = async (path: string, options: FileSourceOptions = {}) => {
      const source = createFileSource(path, options);
      try {
        return await findFixedVhd(source, await source.probe());
      } finally {
        source.close();
      }
    };
    const make = (name: string, options: string): string => {
      const path = `${directory()}/${name}.vhd`;
      qemuImg('convert', '-f', 'raw', '-O', 'vpc', '-o', `subformat=fixed${options}`, raw, path);
      return path;
    };

    for (const [name, options] of [
      ['sized by its geometry', ''],
      ['sized by its footer', ',force_size=on'],
    ] as const)
      it(`is a raw disk before a footer (${name})`, async () => {
        const path = make('fixed', options);
        const found = await find(path);
        const info = JSON.parse(qemuImg('info', '--output=json', '-f', 'vpc', path)) as Record<
          string,
          unknown
        >;
        assert.equal(found?.virtualSize, info['virtual-size']);
        copyFileSync(path, `${path}.raw`);
        truncateSync(`${path}.raw`, found!.rawLength);
        assertSameDisk(`${path}.raw`, path, 'vpc');
      });

    it('is asked for one sector', async () => {
      const source = createFileSource(make('one', ''));
      const facts = await source.probe();
      await findFixedVhd(source, facts);
      assert.equal(source.bytesRead - facts.head.length, 512);
      source.close();
    });

    it('is not seen in a raw disk, a damaged footer, one of another size, or where there are no ranges', async () => {
      assert.equal(await find(raw), undefined);
      assert.equal(await find(make('stream', ''), { ranges: false }), undefined);
      assert.equal(await find(make('endless', ''), { length: false }), undefined);
      const path = make('changed', '');
      const whole = readFileSync(path);
      writeFileSync(path, Buffer.concat([Buffer.alloc(512), whole]));
      assert.equal(await find(path), undefined);
      whole[whole.length - 400]! ^= 1;
      writeFileSync(path, whole);
      assert.equal(await find(path), undefined);
    });
  });

  describe('from a source without ranges', () => {
    for (const kind of KINDS.filter(({ name }) => /monolithicSparse$|VDI dynamic$|a footer$/.test(name))) {
      const { name, format } = kind;
      it(`${name} is described by its head, as far as that goes`, async () => {
        const image = `${directory()}/head.image`;
        kind.make(raw, image);
        const whole = await parseFile(format, image);
        const parsing = parseFile(format, image, { ranges: false, length: false });
        if (name.endsWith('a footer')) await assertRefused(parsing, 'ScratchSpaceRequired', /at its end/);
        else assert.deepEqual(await parsing, whole);
      });
    }

    it('a VHDX needs more than its head', async () => {
      const image = `${directory()}/head.vhdx`;
      qemuImg('convert', '-f', 'raw', '-O', 'vhdx', raw, image);
      await assertRefused(
        parseFile('vhdx', image, { ranges: false }),
        'ScratchSpaceRequired',
        /VHDX metadata is at \d+, and the source cannot be read by ranges/,
      );
    });
  });
});
