import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import type { ForeignFormat } from '../../../activities/image/formats/foreign/types.js';
import type { Sandbox } from '../../../activities/image/sandbox/sandbox.js';
import { makeRaw, MIB, qemuImg, useDirectory } from '../support/images.js';
import type { Lie } from './lie.js';
import { appendFooter, assertRefused, copyFile } from './support.js';
import { VDI_LIES } from './vdi-lies.js';
import { VHD_LIES } from './vhd-lies.js';
import { VHDX_LIES } from './vhdx-lies.js';
import { VMDK_LIES, VMDK_STREAM_LIES } from './vmdk-lies.js';

/** Nothing is run: an image that is refused is refused before `qemu-img` sees it. */
const NOTHING: Sandbox = { run: () => assert.fail('qemu-img is started') };

describe('foreign images that lie', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  const honest: Record<string, Buffer> = {};

  before(() => {
    const raw = makeRaw(`${directory()}/disk.raw`, 4 * MIB);
    for (const [name, driver, options] of [
      ['vmdk', 'vmdk', 'subformat=monolithicSparse'],
      ['stream', 'vmdk', 'subformat=streamOptimized'],
      ['flat', 'vmdk', 'subformat=monolithicFlat'],
      ['split', 'vmdk', 'subformat=twoGbMaxExtentSparse'],
      ['vdi', 'vdi', 'static=off'],
      ['vhd', 'vpc', 'subformat=dynamic'],
      ['vhdx', 'vhdx', 'subformat=dynamic'],
    ] as const) {
      const path = `${directory()}/${name}.vmdk`;
      qemuImg('convert', '-f', 'raw', '-O', driver, '-o', options, raw, path);
      if (name === 'stream') appendFooter(path);
      honest[name] = readFileSync(path);
    }
    honest['split-s001'] = readFileSync(`${directory()}/split-s001.vmdk`);
  });

  async function refuse(format: ForeignFormat, content: Buffer, { type, message }: Lie): Promise<void> {
    const path = `${directory()}/lie`;
    writeFileSync(path, content);
    await assertRefused(copyFile(format, path, `${directory()}/target`, { sandbox: NOTHING }), type, message);
  }

  for (const [seed, format, lies] of [
    ['vmdk', 'vmdk', VMDK_LIES],
    ['stream', 'vmdk', VMDK_STREAM_LIES],
    ['vdi', 'vdi', VDI_LIES],
    ['vhd', 'vhd', VHD_LIES],
    ['vhdx', 'vhdx', VHDX_LIES],
  ] as const)
    for (const lie of lies)
      it(`refuses ${lie.name}`, async () => {
        const image = Buffer.from(honest[seed]!);
        await refuse(format, lie.tell(image) ?? image, lie);
      });

  const elsewhere: readonly (readonly [string, string, RegExp])[] = [
    ['vmdk-descriptor-only', 'flat', /names flat extents: its data is in another file/],
    ['vmdk-split', 'split', /names 1 extents in files of their own/],
    ['vmdk-extent-of-another', 'split-s001', /no descriptor of its own/],
  ];
  for (const [name, seed, message] of elsewhere)
    it(`refuses ${name}`, () =>
      refuse('vmdk', honest[seed]!, { name, tell: () => undefined, type: 'ImageHostile', message }));

  for (const [seed, format] of [
    ['vmdk', 'vmdk'],
    ['stream', 'vmdk'],
    ['vdi', 'vdi'],
    ['vhd', 'vhd'],
    ['vhdx', 'vhdx'],
  ] as const)
    for (const bytes of [8, 300, 700, 100_000, 1_200_000])
      it(`refuses a ${seed} cut to ${bytes} bytes`, async () => {
        const path = `${directory()}/cut`;
        const content = honest[seed]!.subarray(0, bytes);
        writeFileSync(path, content);
        await assertRefused(copyFile(format, path, `${directory()}/cut.target`), 'ImageInvalid', /./);
      });

  for (const [seed, format, bytes] of [
    ['vmdk', 'vmdk', 600_000],
    ['stream', 'vmdk', 600_000],
    ['vdi', 'vdi', 600_000],
    ['vhd', 'vhd', 600_000],
    // the file has 4 MiB more than its blocks need
    ['vhdx', 'vhdx', 5 * MIB],
  ] as const)
    it(`refuses a ${seed} without its last ${bytes} bytes`, async () => {
      const path = `${directory()}/cut`;
      writeFileSync(path, honest[seed]!.subarray(0, honest[seed]!.length - bytes));
      await assertRefused(
        copyFile(format, path, `${directory()}/cut.target`),
        'ImageInvalid',
        /cut short|without the footer|not a multiple/,
      );
    });

  it('refuses blocks beyond the end, which QEMU reads as zeros', async () => {
    const path = `${directory()}/beyond`;
    for (const [seed, entry] of [
      ['vdi', honest['vdi']!.readUInt32LE(0x154)],
      ['vmdk', honest['vmdk']!.readUInt32LE(Number(honest['vmdk']!.readBigUInt64LE(56)) * 512) * 512],
    ] as const) {
      const image = Buffer.from(honest[seed]!);
      image.writeUInt32LE(50_000, entry);
      writeFileSync(path, image);
      await assertRefused(
        copyFile(seed, path, `${directory()}/beyond.target`),
        'ImageInvalid',
        /image has data that ends at \d+, the file ends at \d+: it is cut short/,
      );
    }
  });

  it('shows no word of the image in a message', async () => {
    const image = Buffer.from(honest['flat']!);
    image.write('RW 8192 secret "hunter2"', image.indexOf('RW '));
    const path = `${directory()}/words`;
    writeFileSync(path, image);
    await assert.rejects(copyFile('vmdk', path, `${directory()}/target`), (error) => {
      assert.doesNotMatch(String(error), /secret|hunter2/i);
      return true;
    });
  });
});
