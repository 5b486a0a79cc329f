import { fstatSync, readFileSync } from 'node:fs';

/** Linux encodes a device number in two parts (`gnu_dev_major`, `gnu_dev_minor`). */
function numberOf(rdev: bigint): string {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn);
  return `${major}:${minor}`;
}

/** Size of an open block device in bytes, as the kernel says it; sysfs counts sectors of 512 bytes whatever the device's own are. */
export function blockDeviceSize(fd: number): number {
  return readAttribute(fd, 'size') * 512;
}

/** Whether an open block device takes no writes: the kernel opens it for writing all the same. */
export function isReadOnlyDevice(fd: number): boolean {
  return readAttribute(fd, 'ro') === 1;
}

function readAttribute(fd: number, name: 'size' | 'ro'): number {
  const { rdev } = fstatSync(fd, { bigint: true });
  return Number(readFileSync(`/sys/dev/block/${numberOf(rdev)}/${name}`, 'utf8'));
}
