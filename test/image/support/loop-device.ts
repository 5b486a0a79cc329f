import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { MIB } from './images.js';

/** How a loop device is made. */
export interface LoopOptions {
  /** Bytes of a logical sector. @default 512 */
  readonly sectorBytes?: number;
  readonly readOnly?: boolean;
  /** Fill it with 0xAA first: what was there before must be seen nowhere. @default true */
  readonly dirty?: boolean;
}

/** Loop devices of one suite; they go after each test. */
export interface LoopDevices {
  /** This process can make some. */
  readonly available: boolean;
  /** A device over a file of its own, made sparse with this size; its path. */
  make(backing: string, bytes: number, options?: LoopOptions): string;
}

/**
 * Call in the body of `describe`; where the process is not root the suite is skipped, and says why, unless devices are `optional`
 * to it.
 */
export function useLoopDevices({ optional = false }: { readonly optional?: boolean } = {}): LoopDevices {
  const available = process.getuid?.() === 0;
  const devices: string[] = [];
  before(function () {
    if (available || optional) return;
    this.test!.title += ' (loop devices need root)';
    this.skip();
  });
  afterEach(() => {
    for (const device of devices.splice(0)) execFileSync('losetup', ['--detach', device]);
  });
  return {
    available,
    make(backing, bytes, { sectorBytes = 512, readOnly = false, dirty = true } = {}) {
      writeFileSync(backing, '');
      truncateSync(backing, bytes);
      if (dirty) fillWith(backing, bytes, 0xaa);
      const flags = ['--sector-size', `${sectorBytes}`, ...(readOnly ? ['--read-only'] : [])];
      const device = execFileSync('losetup', ['--show', '--find', ...flags, backing], { encoding: 'utf8' });
      devices.push(device.trim());
      return device.trim();
    },
  };
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
