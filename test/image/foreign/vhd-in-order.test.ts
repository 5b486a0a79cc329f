import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { planImage } from '../../../activities/image/plan-image.js';
import { convertInto } from '../support/convert-into.js';
import { convertFile, type ConvertTestOptions } from '../support/convert.js';
import { createFileSource } from '../support/file-source.js';
import { makePatterned, makeRaw, MIB, qemuImg, sha256, useDirectory } from '../support/images.js';
import { readDevice, useLoopDevices } from '../support/loop-device.js';
import { refusal } from '../support/refused.js';
import { sealFooter } from './vhd-lies.js';

const CURRENT_SIZE = 48;

describe('a fixed VHD that is read in order', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  const usableBytes = 8 * MIB;
  const images: Record<string, string> = {};
  before(() => {
    const raw = makeRaw(`${directory()}/disk.raw`, 3 * MIB + 512);
    for (const [name, options] of [
      ['footer', ',force_size=on'],
      ['geometry', ''],
    ] as const) {
      images[name] = `${directory()}/${name}.vhd`;
      qemuImg('convert', '-f', 'raw', '-O', 'vpc', '-o', `subformat=fixed${options}`, raw, images[name]);
    }
    // a geometry that does not count the last sectors: QEMU does not show them either
    const whole = readFileSync(images['geometry']!);
    const footer = Buffer.from(whole.subarray(-512));
    footer.writeBigUInt64BE(BigInt(whole.length - 512 + 4096), CURRENT_SIZE);
    images['geometry with a rest'] = `${directory()}/rest.vhd`;
    const rest = Buffer.alloc(4096, 'rest');
    writeFileSync(
      images['geometry with a rest'],
      Buffer.concat([whole.subarray(0, -512), rest, sealFooter(footer)]),
    );
  });

  const ways: Readonly<Record<string, Partial<ConvertTestOptions>>> = {
    'without ranges': { ranges: false },
    'without a length, in odd pieces': { ranges: false, length: false, chunk: 70_001 },
    'in tiny pieces': { ranges: false, chunk: 100 },
    'with a checksum, ranges lost': { loseRangesAfter: MIB },
  };
  for (const name of ['footer', 'geometry', 'geometry with a rest'])
    for (const [way, options] of Object.entries(ways))
      it(`sized by its ${name}, ${way}: is the disk that QEMU reads`, async () => {
        const image = images[name]!;
        const target = `${directory()}/${name}-${way}.img`.replaceAll(' ', '-');
        const result = await convertFile(image, target, { usableBytes, ...options });
        assertDisk(image, target, result);
      });

  // what is whole in the first bytes is known for a VHD before it is read
  for (const [way, bytes, options] of [
    ['where a checksum wants it read in order', MIB / 2, { checksum: 'of the file' }],
    ['by a stream whose beginning holds all of it', MIB / 2, { ranges: false, chunk: 511 }],
    ['when ranges are lost after it was found', 4 * MIB, { loseRangesAfter: MIB + 100_000 }],
  ] as const)
    it(`is read without its footer ${way}`, async () => {
      const raw = makeRaw(`${directory()}/known.raw`, bytes);
      const image = `${directory()}/known.vhd`;
      const subformat = 'subformat=fixed,force_size=on';
      qemuImg('convert', '-f', 'raw', '-O', 'vpc', '-o', subformat, raw, image);
      const checksum = 'checksum' in options ? { checksum: `sha256:${sha256(image)}` } : {};
      const target = `${directory()}/known-${way.replaceAll(' ', '-')}.img`;
      const result = await convertFile(image, target, { ...options, ...checksum, usableBytes: bytes });
      assert.equal(result.virtualSize, bytes);
      assert.ok(readFileSync(target).equals(readFileSync(raw)));
    });

  it('in gz: the same; and it fits a claim of just its size', async () => {
    const image = images['footer']!;
    execFileSync('gzip', ['-1', '-k', '-f', image]);
    const target = `${directory()}/in-gz.img`;
    const just = { usableBytes: statSync(image).size - 512 };
    assertDisk(image, target, await convertFile(`${image}.gz`, target, just), just.usableBytes);
  });

  describe('of 4 MiB, in what tells its length alone', () => {
    const DISK_BYTES = 4 * MIB;
    const loops = useLoopDevices({ optional: true });
    const backing = (): string => `${directory()}/backing`;
    let raw = '';
    let count = 0;
    before(() => {
      raw = makePatterned(`${directory()}/just.raw`, 4);
      const just = `${directory()}/just`;
      qemuImg('convert', '-f', 'raw', '-O', 'vpc', '-o', 'subformat=fixed,force_size', raw, `${just}.vhd`);
      writeFileSync(`${just}.large`, Buffer.concat([readFileSync(raw), Buffer.alloc(512, 'more')]));
      for (const name of ['vhd', 'large']) {
        execFileSync('xz', ['-0', '-k', `${just}.${name}`]);
        execFileSync('zip', ['-q', '-j', `${just}.${name}.zip`, `${just}.${name}`]);
      }
    });

    const inOrder: Readonly<Record<string, (image: string) => [string, Partial<ConvertTestOptions>]>> = {
      xz: (image) => [`${image}.xz`, {}],
      zip: (image) => [`${image}.zip`, {}],
      'a source without ranges': (image) => [image, { ranges: false }],
      'a source with a checksum': (image) => [image, { checksum: `sha256:${sha256(image)}` }],
    };
    for (const [way, made] of Object.entries(inOrder)) {
      it(`fits a claim of just its size (${way})`, async () => {
        const [image, options] = made(`${directory()}/just.vhd`);
        const target = `${directory()}/just-${(count += 1)}.img`;
        const result = await convertFile(image, target, { ...options, usableBytes: DISK_BYTES });
        assert.deepEqual([result.format, result.virtualSize], ['vhd', DISK_BYTES]);
        assert.ok(readFileSync(target).equals(readFileSync(raw)));
      });

      it(`is no raw disk that is larger by as much: that is refused, and not written beyond the claim (${way})`, async () => {
        const [image, options] = made(`${directory()}/just.large`);
        const target = `${directory()}/just-${(count += 1)}.img`;
        await assert.rejects(
          convertFile(image, target, { ...options, usableBytes: DISK_BYTES }),
          refusal(
            'LargerPVCRequired',
            /image needs at least 4194816 bytes, claim team-a\/vm1 offers 4194304$/,
          ),
        );
        assert.ok(statSync(target).size <= DISK_BYTES);
      });

      it(`both are so on a block device (${way})`, async function () {
        if (!loops.available) return this.skip();
        for (const name of ['vhd', 'large']) {
          const [image, { ranges = true, checksum }] = made(`${directory()}/just.${name}`);
          const device = loops.make(backing(), DISK_BYTES);
          const converting = convertInto(createFileSource(image, { ranges }), device, {
            state: `${directory()}/state-${(count += 1)}`,
            ...(checksum === undefined ? {} : { checksum }),
          });
          if (name === 'large')
            await assert.rejects(converting, refusal('LargerPVCRequired', /at least 4194816 bytes/));
          else assert.equal((await converting).format, 'vhd');
          if (name === 'vhd') assert.ok(readDevice(backing(), device).equals(readFileSync(raw)));
        }
      });
    }

    it('is refused before anything is read where the claim is smaller than that', async () => {
      const image = `${directory()}/just.vhd`;
      const source = createFileSource(image, { ranges: false });
      const target = { claimName: 'team-a/vm1', usableBytes: DISK_BYTES - 512 };
      await assert.rejects(
        planImage(source, { scratch: false, target }),
        refusal('LargerPVCRequired', /image needs 4194816 bytes, claim team-a\/vm1 offers 4193792$/),
      );
      source.close();
    });

    it('is a raw disk for who asks for raw, and refused at once', async () => {
      const image = `${directory()}/just.vhd`;
      const source = createFileSource(image, { ranges: false });
      const target = { claimName: 'team-a/vm1', usableBytes: DISK_BYTES };
      const planning = planImage(source, { scratch: false, target, format: 'raw' });
      await assert.rejects(planning, refusal('LargerPVCRequired', /image needs 4194816 bytes/));
      source.close();
    });
  });

  it('goes on after a failure at any place', async () => {
    const image = images['footer']!;
    const target = `${directory()}/failed.img`;
    const options = { usableBytes, ranges: false, checkpointEvery: { everyBytes: 1, everyMs: 0 } };
    const { size } = statSync(image);
    for (const [index, failAfter] of [size / 2, size - 600, size - 100].entries())
      await assert.rejects(
        convertFile(image, target, { ...options, fence: index + 1, failAfter: MIB + Math.floor(failAfter) }),
      );
    assertDisk(image, target, await convertFile(image, target, { ...options, fence: 9 }));
  });

  describe('for who asks for a VHD', () => {
    const ways: Readonly<Record<string, Partial<ConvertTestOptions> & { readonly container?: 'gz' | 'xz' }>> =
      {
        'in gz': { container: 'gz' },
        'in xz': { container: 'xz' },
        'without ranges': { ranges: false },
        'without a length': { ranges: false, length: false },
        'with ranges': {},
      };
    const tools = { gz: 'gzip', xz: 'xz' } as const;
    for (const [way, { container, ...options }] of Object.entries(ways)) {
      const target = (name: string): string => `${directory()}/asked-${name}-${way.replaceAll(' ', '-')}.img`;
      const packed = (image: string): string => {
        if (!container) return image;
        execFileSync(tools[container], ['-1', '-k', '-f', image]);
        return `${image}.${container}`;
      };

      it(`is one (${way})`, async () => {
        const image = images['footer']!;
        const asked = { ...options, usableBytes, format: 'vhd' } as const;
        assertDisk(image, target('vhd'), await convertFile(packed(image), target('vhd'), asked));
      });

      it(`a raw disk is refused (${way})`, async () => {
        const image = packed(makeRaw(`${directory()}/asked.raw`, 2 * MIB));
        const where = container ? `content of the ${container}` : 'source';
        await assert.rejects(
          convertFile(image, target('raw'), { ...options, usableBytes, format: 'vhd' }),
          refusal('UnsupportedFormat', new RegExp(`^${where} is raw, vhd was expected$`)),
        );
      });

      it(`is nothing else for who asks for another format (${way})`, async () => {
        await assert.rejects(
          convertFile(packed(images['footer']!), target('other'), { ...options, usableBytes, format: 'vdi' }),
          refusal('UnsupportedFormat', /, vdi was expected$/),
        );
      });
    }

    it('what has no room for a footer is refused before it is read', async () => {
      const image = makeRaw(`${directory()}/ragged.raw`, 2 * MIB + 1);
      const source = createFileSource(image, { ranges: false });
      await assert.rejects(
        planImage(source, { scratch: false, format: 'vhd' }),
        refusal('UnsupportedFormat', /^source is raw, vhd was expected$/),
      );
      source.close();
    });
  });

  it('is a raw disk of all its bytes for who asks for raw, and where its footer is of another size', async () => {
    const image = images['footer']!;
    const target = `${directory()}/raw.img`;
    const forced = await convertFile(image, target, { usableBytes, ranges: false, format: 'raw' });
    assert.equal(forced.virtualSize, statSync(image).size);
    const longer = `${directory()}/longer.raw`;
    writeFileSync(longer, Buffer.concat([Buffer.alloc(512), readFileSync(image)]));
    const other = await convertFile(longer, `${target}.2`, { usableBytes, ranges: false });
    assert.deepEqual([other.format, other.virtualSize], ['raw', statSync(longer).size]);
  });

  function assertDisk(
    image: string,
    target: string,
    result: { format: string; virtualSize: number },
    bytes = usableBytes,
  ): void {
    const expected = `${target}.expected`;
    qemuImg('convert', '-f', 'vpc', '-O', 'raw', image, expected);
    const size = statSync(expected).size;
    assert.deepEqual([result.format, result.virtualSize], ['vhd', size]);
    truncateSync(expected, bytes);
    assert.equal(sha256(target), sha256(expected));
  }
});
