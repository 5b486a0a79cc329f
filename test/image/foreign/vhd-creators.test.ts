import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, readSync, statSync, writeSync } from 'node:fs';
import { convertFile } from '../support/convert.js';
import { makeRaw, MIB, qemuImg, useDirectory } from '../support/images.js';
import { sealFooter } from './vhd-lies.js';

const FOOTER_BYTES = 512;
const CREATOR = 28;
const GEOMETRY = 56;
const DISK_BYTES = 4 * MIB;
/** What the specification makes of {@link DISK_BYTES}, as every program but QEMU writes it: 32 sectors are not counted. */
const CHS = { cylinders: 120, heads: 4, sectors: 17 };
const CHS_BYTES = CHS.cylinders * CHS.heads * CHS.sectors * 512;

/** Programs that make VHDs, and what the size of their disks is; see QEMU 10. */
const CREATORS: readonly (readonly [name: string, creator: string, bytes: number])[] = [
  ['Azure', 'wa\0\0', DISK_BYTES],
  ['VirtualBox', 'vbox', DISK_BYTES],
  ['one that nobody knows', '\0\0\0\0', DISK_BYTES],
  ['Hyper-V', 'win ', DISK_BYTES],
  ['Disk2vhd', 'd2v ', DISK_BYTES],
  ['XenServer', 'tap\0', DISK_BYTES],
  ['XenConverter', 'CTXS', DISK_BYTES],
  ['QEMU with force_size', 'qem2', DISK_BYTES],
  ['QEMU', 'qemu', CHS_BYTES],
  ['Virtual PC', 'vpc ', CHS_BYTES],
];

describe('a VHD by its creator', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  let raw = '';
  before(() => {
    raw = makeRaw(`${directory()}/disk.raw`, DISK_BYTES, 7);
    // where a disk keeps its second partition table
    const fd = openSync(raw, 'r+');
    writeSync(fd, 'EFI PART', DISK_BYTES - 512);
    closeSync(fd);
  });

  for (const subformat of ['fixed', 'dynamic'])
    for (const [index, [name, creator, bytes]] of CREATORS.entries())
      it(`${subformat}, of ${name}: has ${bytes} of ${DISK_BYTES} bytes`, async () => {
        const image = makeVhd(subformat, creator);
        const target = `${image}-${index}.img`;
        const result = await convertFile(image, target, { usableBytes: DISK_BYTES, fit: true });
        assert.deepEqual([result.format, result.virtualSize], ['vhd', bytes]);
        assert.ok(readFileSync(target).equals(readFileSync(raw).subarray(0, bytes)));
      });

  function makeVhd(subformat: string, creator: string): string {
    const image = `${directory()}/${subformat}.vhd`;
    const options = `subformat=${subformat},force_size=on`;
    qemuImg('convert', '-f', 'raw', '-O', 'vpc', '-o', options, raw, image);
    const fd = openSync(image, 'r+');
    const end = statSync(image).size - FOOTER_BYTES;
    for (const at of subformat === 'dynamic' ? [0, end] : [end]) {
      const footer = Buffer.alloc(FOOTER_BYTES);
      readSync(fd, footer, 0, FOOTER_BYTES, at);
      footer.write(creator, CREATOR, 'latin1');
      footer.writeUInt16BE(CHS.cylinders, GEOMETRY);
      footer.writeUInt8(CHS.heads, GEOMETRY + 2);
      footer.writeUInt8(CHS.sectors, GEOMETRY + 3);
      writeSync(fd, sealFooter(footer), 0, FOOTER_BYTES, at);
    }
    closeSync(fd);
    return image;
  }
});
