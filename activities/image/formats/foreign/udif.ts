import { unsupported } from '../../refusals.js';

/** Begins the trailer of 512 bytes that a UDIF image (`.dmg`) ends with. */
const COOKIE = 'koly';
const VERSION = 4;
const TRAILER_BYTES = 512;

/**
 * Refuses an Apple disk image by the last 512 bytes of its file: what precedes them is compressed, or begins like a raw disk.
 * @throws {@link FailureType} `UnsupportedFormat`
 */
export function refuseUdif(end: Buffer): void {
  if (end.length !== TRAILER_BYTES || end.toString('latin1', 0, 4) !== COOKIE) return;
  if (end.readUInt32BE(4) !== VERSION || end.readUInt32BE(8) !== TRAILER_BYTES) return;
  throw unsupported(
    'image is an Apple disk image (UDIF), which this release does not read: convert it to qcow2 or raw',
  );
}
