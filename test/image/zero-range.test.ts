import assert from 'node:assert/strict';
import { chmodSync, closeSync, constants, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { zeroRange, type ZeroOptions } from '../../activities/image/target/zero-range.js';
import { MIB, useDirectory } from './support/images.js';
import { readDevice, useLoopDevices } from './support/loop-device.js';

const BYTES = 12 * MIB;
const { signal } = new AbortController();

/** Each way to make zeros, by what is installed. */
const WAYS: Readonly<Record<string, ZeroOptions>> = {
  'by the ioctl': { signal },
  'by the tool where koffi is missing': { signal, native: false },
  'by writing where both are': { signal, native: false, tool: '/nonexistent/blkdiscard' },
  'by writing where the tool fails': { signal, native: false, tool: 'false' },
};

describe('ranges of a device that read as zeros', () => {
  const directory = useDirectory();
  const loops = useLoopDevices();
  const backing = (): string => `${directory()}/backing`;

  async function zero(device: string, range: readonly [number, number], options: ZeroOptions): Promise<void> {
    const fd = openSync(device, 'r+');
    try {
      await zeroRange(fd, range, options);
    } finally {
      closeSync(fd);
    }
  }

  for (const [name, options] of Object.entries(WAYS))
    for (const sectorBytes of [512, 4096])
      for (const [start, end] of [
        [0, BYTES],
        [MIB + sectorBytes, 7 * MIB - sectorBytes],
        [BYTES - sectorBytes, BYTES],
        [MIB, MIB],
      ] as const)
        it(`are made ${name}: ${start} to ${end}, sectors of ${sectorBytes}, and nothing around them`, async () => {
          const device = loops.make(backing(), BYTES, { sectorBytes });
          let zeroed = 0;
          await zero(device, [start, end], { ...options, onZeroed: (bytes) => (zeroed += bytes) });
          assert.equal(zeroed, end - start);
          const found = readDevice(backing(), device);
          assert.ok(found.equals(Buffer.alloc(BYTES, 0xaa).fill(0, start, end)));
        });

  for (const [name, options] of Object.entries(WAYS))
    it(`are an error where there is no room for them, ${name}`, async () => {
      const mount = `${directory()}/small`;
      mkdirSync(mount, { recursive: true });
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'none', mount]);
      try {
        const device = loops.make(`${mount}/backing`, BYTES, { dirty: false });
        await assert.rejects(zero(device, [0, BYTES], options), { code: /^(EIO|ENOSPC)$/ });
      } finally {
        execFileSync('umount', ['--lazy', mount]);
      }
    });

  it('are made by the tool of a device that is held exclusively', async () => {
    const device = loops.make(backing(), BYTES);
    const code = `${directory()}/code`;
    const tool = `${directory()}/noting`;
    writeFileSync(tool, `#!/bin/sh\nblkdiscard "$@"\ncode=$?\necho "$code" > ${code}\nexit "$code"\n`);
    chmodSync(tool, 0o755);
    const fd = openSync(device, constants.O_RDWR | constants.O_EXCL);
    try {
      await zeroRange(fd, [0, BYTES], { signal, native: false, tool });
    } finally {
      closeSync(fd);
    }
    assert.equal(readFileSync(code, 'utf8'), '0\n');
    assert.ok(readDevice(backing(), device).equals(Buffer.alloc(BYTES)));
  });

  it('are left when the transfer is told to stop', async () => {
    const device = loops.make(backing(), BYTES);
    const stopped = AbortSignal.abort(new Error('stopped'));
    for (const options of Object.values(WAYS))
      await assert.rejects(zero(device, [0, BYTES], { ...options, signal: stopped }), /stopped/);
    assert.ok(readDevice(backing(), device).equals(Buffer.alloc(BYTES, 0xaa)));
  });
});
