import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { failureTypeOf } from '../../activities/failures.js';
import { planImage } from '../../activities/image/plan-image.js';
import { holdMount } from '../support/mounts.js';
import { convertInto, type ConvertIntoOptions } from './support/convert-into.js';
import { createFileSource, type FileSourceOptions } from './support/file-source.js';
import { makeRaw, MIB, qemuIo, useDirectory } from './support/images.js';
import { readDevice, useLoopDevices } from './support/loop-device.js';
import { refusal } from './support/refused.js';
import { converted, copied, WAYS, type Way } from './support/ways.js';

/** No multiple of 4096, nor of a window, nor of a segment. */
const DISK_BYTES = 9 * MIB + 512 * 3;
const DEVICE_BYTES = 18 * MIB;
const SOON = { everyBytes: 1, everyMs: 0 };

describe('block device as target', function () {
  this.timeout(120_000);
  const directory = useDirectory();
  const loops = useLoopDevices();
  let raw = '';
  let count = 0;
  before(() => {
    raw = makeRaw(`${directory()}/disk.raw`, DISK_BYTES, 11);
    qemuIo(raw, 'raw', 'write -z 2M 5M');
  });

  const backing = (): string => `${directory()}/backing`;

  async function fill(
    device: string,
    image: string,
    options: ConvertIntoOptions & { source?: FileSourceOptions } = {},
  ) {
    const { source = {}, ...more } = options;
    const state = `${directory()}/state-${(count += 1)}`;
    return await convertInto(createFileSource(image, source), device, {
      state,
      scratch: directory(),
      ...more,
    });
  }

  /** The device holds this disk, and zeros after it. */
  function assertHolds(device: string, disk: Buffer): void {
    const found = readDevice(backing(), device);
    if (found.equals(Buffer.concat([disk], found.length))) return;
    const at = found.findIndex((byte, index) => byte !== (disk[index] ?? 0));
    assert.fail(`at ${at} of ${found.length} is ${found[at]}, the disk has ${disk[at] ?? 'ended'}`);
  }

  const isUntouched = (device: string, file = backing()): boolean => {
    const found = readDevice(file, device);
    return found.equals(Buffer.alloc(found.length, 0xaa));
  };

  async function reasonOf(image: string, { source }: Way): Promise<string> {
    const opened = createFileSource(image, source);
    const { facts } = await planImage(opened, { scratch: true });
    opened.close();
    return facts.reason;
  }

  for (const [name, way] of Object.entries(WAYS))
    describe(name, () => {
      const image = (): string => `${directory()}/image`;
      before(() => way.make(raw, image()));

      it('holds the disk, and zeros where the disk has none and after it, whatever was there before', async () => {
        assert.match(await reasonOf(image(), way), way.plan);
        const device = loops.make(backing(), DEVICE_BYTES);
        let zeroed = 0;
        await fill(device, image(), {
          source: way.source,
          onProgress: ({ bytesZeroed = 0 }) => (zeroed = bytesZeroed),
        });
        assertHolds(device, readFileSync(raw));
        assert.ok(zeroed >= 8 * MIB && zeroed <= DEVICE_BYTES, `progress tells of ${zeroed} zeroed bytes`);
      });

      it('does so when the attempt is the third, with sectors of 4096 bytes', async () => {
        const device = loops.make(backing(), DEVICE_BYTES, { sectorBytes: 4096 });
        const state = `${directory()}/resumed-${name.replaceAll(' ', '-')}`;
        const more = { state, checkpointEvery: SOON };
        const size = readFileSync(image()).length;
        for (const fence of [1, 2]) {
          const source = { ...way.source, failAfter: Math.max(1.2 * MIB, (size * fence) / 3 + MIB) };
          // what goes on in the middle may come to its end
          await fill(device, image(), { ...more, fence, source }).catch((error: unknown) =>
            assert.equal(failureTypeOf(error), 'SourceUnavailable', String((error as Error).stack)),
          );
        }
        await fill(device, image(), { ...more, fence: 3, source: way.source });
        assertHolds(device, readFileSync(raw));
      });
    });

  for (const bytes of [1, 512, 512 * 3, 4097, 8 * MIB + 1])
    for (const [name, make, source] of [
      ['qcow2', converted('qcow2'), {}],
      ['raw', copied, {}],
      ['raw as a stream', copied, { ranges: false }],
    ] as const)
      it(`takes a disk of ${bytes} bytes (${name})`, async () => {
        const small = makeRaw(`${directory()}/small.raw`, bytes, bytes);
        const image = `${directory()}/small`;
        make(small, image);
        const device = loops.make(backing(), 9 * MIB, { sectorBytes: 4096 });
        await fill(device, image, { source });
        assertHolds(device, readFileSync(small));
      });

  for (const [name, way] of Object.entries(WAYS).filter(([key]) => !/scratch/.test(key)))
    it(`refuses a disk that is larger than the device (${name})`, async () => {
      const image = `${directory()}/large`;
      way.make(raw, image);
      const device = loops.make(backing(), 9 * MIB);
      const size = String(9 * MIB);
      await assert.rejects(
        fill(device, image, { source: way.source }),
        refusal(
          'LargerPVCRequired',
          new RegExp(`image needs (at least )?\\d+ bytes, claim ${device} offers ${size}$`),
        ),
      );
      // a compressed disk tells its size at its end
      if (!/^a raw disk is copied.*(gz|zst|xz;? after)/.test(await reasonOf(image, way)))
        assert.ok(isUntouched(device), 'nothing was written');
    });

  it('fits a disk of exactly its size', async () => {
    const image = `${directory()}/exact`;
    const exact = makeRaw(`${directory()}/exact.raw`, 12 * MIB, 3);
    converted('qcow2')(exact, image);
    const device = loops.make(backing(), 12 * MIB, { sectorBytes: 4096 });
    const result = await fill(device, image);
    assert.equal(result.diskBytes, 12 * MIB);
    assertHolds(device, readFileSync(exact));
  });

  it('is refused while it is read-only, or while a file system on it is mounted, and is left as it was', async () => {
    const readOnly = loops.make(backing(), DEVICE_BYTES, { readOnly: true });
    await assert.rejects(
      fill(readOnly, raw),
      refusal('NotAuthorized', /\/dev\/loop\d+ cannot be written: the device is read-only$/),
    );
    assert.ok(isUntouched(readOnly));
    const mounted = loops.make(`${directory()}/mounted`, DEVICE_BYTES, { dirty: false });
    execFileSync('mkfs.ext4', ['-q', mounted]);
    mkdirSync(`${directory()}/mount`);
    // what ext4 writes behind a mount that may write is no write of dvflow's
    await using _ = await holdMount('-o', 'ro,noload', mounted, `${directory()}/mount`);
    const before = readDevice(`${directory()}/mounted`, mounted);
    await assert.rejects(fill(mounted, raw), refusal('ResourceExists', /is in use \(EBUSY\)$/));
    assert.ok(readDevice(`${directory()}/mounted`, mounted).equals(before));
  });

  it('keeps nothing of the disk of an earlier conversion', async () => {
    const device = loops.make(backing(), DEVICE_BYTES, { dirty: false });
    await fill(device, raw);
    const small = `${directory()}/second.raw`;
    writeFileSync(small, 'the second disk');
    await fill(device, small);
    assertHolds(device, Buffer.from('the second disk'));
  });
});
