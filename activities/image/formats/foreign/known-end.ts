import { refuseZipBehind } from '../../archive/zip-end.js';
import { refuseUdif } from './udif.js';

/**
 * Refuses by its last bytes, at most 512, what begins like a raw disk and is none.
 * @throws {@link FailureType} `UnsupportedFormat` for an Apple disk image, and for a zip behind other bytes
 */
export function refuseKnownEnd(end: Buffer): void {
  refuseUdif(end);
  refuseZipBehind(end);
}
