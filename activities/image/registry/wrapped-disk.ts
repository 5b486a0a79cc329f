import { unsupported } from '../refusals.js';

/** What the disk inside of a layer must not be: the layer is the one wrapping that a container disk has (support matrix). */
const WRAPPINGS = [
  ['gzip', 0, Buffer.from([0x1f, 0x8b])],
  ['xz', 0, Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00])],
  ['zstd', 0, Buffer.from([0x28, 0xb5, 0x2f, 0xfd])],
  ['bzip2', 0, Buffer.from('BZh', 'latin1')],
  ['zip', 0, Buffer.from('PK\x03\x04', 'latin1')],
  ['tar', 0x101, Buffer.from('ustar', 'latin1')],
] as const;

/**
 * Refuses a disk that is compressed or in an archive; CDI would write its bytes to the claim as they are, or leave it to chance.
 * @throws {@link FailureType} `UnsupportedFormat`
 */
export function refuseWrapped(head: Buffer, where: string): void {
  const found = WRAPPINGS.find(([, at, magic]) => head.subarray(at, at + magic.length).equals(magic));
  if (found)
    throw unsupported(
      `the disk in container image ${where} is ${found[0]}: in a container disk only qcow2 and raw are supported, as they are`,
    );
}
