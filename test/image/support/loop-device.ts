import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  openSync,
  readFileSync,
  realpathSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { systemCall } from '../../../activities/image/decode/native.js';
import { MIB } from './images.js';

/** linux/loop.h. */
const LOOP_CTL_REMOVE = 0x4c81;

/** How a loop device is made. */
export interface LoopOptions {
  /** Bytes of a logical sector. @default 512 */
  readonly sectorBytes?: number;
  readonly readOnly?: boolean;
  /** Fill it with 0xAA first: what was there before must be seen nowhere. @default true */
  readonly dirty?: boolean;
  /**
   * A number of its own, for a test that detaches it and attaches it again: `losetup --find` of whoever else runs gets the lowest
   * free number, which is the one that was detached a moment ago.
   */
  readonly ownNumber?: boolean;
}

/** Loop devices of one suite; they go after each test. */
export interface LoopDevices {
  /** This process can make some. */
  readonly available: boolean;
  /** A device over a file of its own, made sparse with this size; its path. */
  make(backing: string, bytes: number, options?: LoopOptions): string;
  /** Attaches one of them again that was detached: once the kernel is done with what it was, which may last a moment. */
  attach(device: string, backing: string): Promise<void>;
}

/** Numbers of {@link LoopOptions.ownNumber}, which differ between test processes and are far above those of others. */
let made = 0;
const ownDevice = (): string => `/dev/loop${4096 + (process.pid % 50_000) * 16 + (made++ % 16)}`;

/**
 * Call in the body of `describe`; where the process is not root the suite is skipped, and says why, unless devices are `optional`
 * to it.
 */
export function useLoopDevices({ optional = false }: { readonly optional?: boolean } = {}): LoopDevices {
  const available = process.getuid?.() === 0;
  const devices: { readonly device: string; readonly backing: string; readonly own: boolean }[] = [];
  before(function () {
    if (available || optional) return;
    this.test!.title += ' (loop devices need root)';
    this.skip();
  });
  afterEach(() => {
    for (const { device, backing, own } of devices.splice(0)) {
      // by now the number may be somebody else's
      if ([backing, `${backing} (deleted)`].includes(backingOf(device)))
        execFileSync('losetup', ['--detach', device]);
      if (own) forget(device);
    }
  });
  return {
    available,
    make(backing, bytes, { sectorBytes = 512, readOnly = false, dirty = true, ownNumber = false } = {}) {
      writeFileSync(backing, '');
      truncateSync(backing, bytes);
      if (dirty) fillWith(backing, bytes, 0xaa);
      const flags = ['--sector-size', `${sectorBytes}`, ...(readOnly ? ['--read-only'] : [])];
      const own = ownNumber ? ownDevice() : undefined;
      const shown = execFileSync('losetup', ['--show', ...flags, own ?? '--find', backing], {
        encoding: 'utf8',
      });
      const device = shown.trim();
      devices.push({ device, backing: realpathSync(backing), own: ownNumber });
      return device;
    },
    async attach(device, backing) {
      for (let left = 100; ; left -= 1) {
        const { status, stderr } = spawnSync('losetup', [device, backing], { encoding: 'utf8' });
        if (status === 0) return;
        assert.ok(left > 0 && /Device or resource busy/.test(stderr), stderr);
        await pause(100);
      }
    },
  };
}

/** Path of the file behind a device, as the kernel has it now; empty where there is none. */
function backingOf(device: string): string {
  const args = ['--noheadings', '--output', 'BACK-FILE', device];
  return execFileSync('losetup', args, { encoding: 'utf8' }).trim();
}

/** Takes a detached device out of the kernel, as far as it can be, so that nobody gets its number by `losetup --find` either. */
function forget(device: string): void {
  const control = openSync('/dev/loop-control', 'r');
  const ioctl = systemCall<(fd: number, request: number, value: number) => number>(
    'int ioctl(int, unsigned long, long)',
  );
  ioctl?.(control, LOOP_CTL_REMOVE, Number(device.slice('/dev/loop'.length)));
  closeSync(control);
}

function fillWith(path: string, bytes: number, value: number): void {
  const fd = openSync(path, 'r+');
  const piece = Buffer.alloc(MIB, value);
  for (let at = 0; at < bytes; at += MIB) writeSync(fd, piece, 0, Math.min(MIB, bytes - at), at);
  closeSync(fd);
}

/** All bytes of a device, past every cache of it: what its backing file holds. */
export function readDevice(backing: string, device: string): Buffer {
  execFileSync('blockdev', ['--flushbufs', device]);
  return readFileSync(backing);
}
