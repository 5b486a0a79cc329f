import type { Compression, ImageFormat } from '../types.js';
import { invalid, unsupported } from './refusals.js';

/** What the first bytes of a source, or of one of its layers, are. */
export type Identity = { readonly compression: Compression } | { readonly format: ImageFormat };

/** One row: these bytes at this offset. Offsets and values as in CDI's `pkg/image/filefmt.go`, and more. */
interface Magic {
  readonly name: string;
  readonly offset: number;
  readonly bytes: Buffer;
}

const COMPRESSIONS: readonly (Magic & { name: Compression })[] = [
  { name: 'gz', offset: 0, bytes: Buffer.from([0x1f, 0x8b]) },
  { name: 'xz', offset: 0, bytes: Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]) },
];

const QCOW = Buffer.from([0x51, 0x46, 0x49, 0xfb]);

/** Recognised, so that they are refused by name instead of being written to a disk as they are. */
const REFUSED: readonly Magic[] = [
  { name: 'zst', offset: 0, bytes: Buffer.from([0x28, 0xb5, 0x2f, 0xfd]) },
  { name: 'zip', offset: 0, bytes: Buffer.from('PK\x03\x04', 'latin1') },
  { name: 'bzip2', offset: 0, bytes: Buffer.from('BZh', 'latin1') },
  { name: 'tar', offset: 0x101, bytes: Buffer.from('ustar', 'latin1') },
  { name: 'VMDK', offset: 0, bytes: Buffer.from('KDMV', 'latin1') },
  { name: 'VMDK', offset: 0, bytes: Buffer.from('# Disk DescriptorFile', 'latin1') },
  { name: 'VDI', offset: 0x40, bytes: Buffer.from([0x7f, 0x10, 0xda, 0xbe]) },
  { name: 'VHD', offset: 0, bytes: Buffer.from('conectix', 'latin1') },
  { name: 'VHDX', offset: 0, bytes: Buffer.from('vhdxfile', 'latin1') },
  { name: 'QED', offset: 0, bytes: Buffer.from('QED\0', 'latin1') },
];

/** An answer meant for a browser: a login page, a directory listing, an error with status 200. */
const HTML = /^(?:\ufeff)?\s*<(?:!doctype\s+html|html)[\s>]/i;

/**
 * Tells by magic numbers, never by a file's name, what bytes are. Everything unknown is a raw disk (an ISO is one).
 * @throws {@link FailureType} `ImageInvalid` (nothing, or an HTML page), `UnsupportedFormat` (a format that is not read)
 */
export function identify(head: Buffer, where: string): Identity {
  if (head.length === 0) throw invalid(`${where} is empty: 0 bytes are no disk image`);
  const compression = COMPRESSIONS.find((magic) => matches(head, magic));
  if (compression) return { compression: compression.name };
  if (head.subarray(0, 4).equals(QCOW)) return { format: 'qcow2' };
  const refused = REFUSED.find((magic) => matches(head, magic));
  if (refused)
    throw unsupported(
      `${where} is ${refused.name}, which this release does not read: convert it to qcow2 or raw`,
    );
  if (HTML.test(head.subarray(0, 256).toString('utf8')))
    throw invalid(`${where} is an HTML page, not a disk image`);
  return { format: 'raw' };
}

function matches(head: Buffer, { offset, bytes }: Magic): boolean {
  return head.subarray(offset, offset + bytes.length).equals(bytes);
}
