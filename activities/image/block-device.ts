import { fstatSync, readFileSync } from 'node:fs';

/** `<major>:<minor>` of a device number, which Linux encodes in two parts (`gnu_dev_major`, `gnu_dev_minor`). */
export function numberOf(rdev: bigint): string {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn);
  return `${major}:${minor}`;
}

/** `<major>:<minor>` of an open block device. */
export function deviceNumber(fd: number): string {
  return numberOf(fstatSync(fd, { bigint: true }).rdev);
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
  return Number(readFileSync(`/sys/dev/block/${deviceNumber(fd)}/${name}`, 'utf8'));
}
