import type { Container, ImageFormat } from '../types.js';
import { isOldTar } from './archive/tar-header.js';
import { hostile, invalid, unsupported } from './refusals.js';

/** What the first bytes of a source, or of one of its layers, are. */
export type Identity = { readonly container: Container } | { readonly format: ImageFormat };

/** One row: these bytes at this offset. Offsets and values as in CDI's `pkg/image/filefmt.go`, and more. */
interface Magic {
  readonly name: string;
  readonly offset: number;
  readonly bytes: Buffer;
}

const CONTAINERS: readonly (Magic & { name: Container })[] = [
  { name: 'gz', offset: 0, bytes: Buffer.from([0x1f, 0x8b]) },
  { name: 'xz', offset: 0, bytes: Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]) },
  { name: 'zst', offset: 0, bytes: Buffer.from([0x28, 0xb5, 0x2f, 0xfd]) },
  { name: 'zip', offset: 0, bytes: Buffer.from('PK\x03\x04', 'latin1') },
  { name: 'zip', offset: 0, bytes: Buffer.from('PK\x05\x06', 'latin1') },
  { name: 'tar', offset: 0x101, bytes: Buffer.from('ustar', 'latin1') },
];

const FORMATS: readonly (Magic & { name: ImageFormat })[] = [
  { name: 'qcow2', offset: 0, bytes: Buffer.from([0x51, 0x46, 0x49, 0xfb]) },
  { name: 'vmdk', offset: 0, bytes: Buffer.from('KDMV', 'latin1') },
  { name: 'vdi', offset: 0x40, bytes: Buffer.from([0x7f, 0x10, 0xda, 0xbe]) },
  { name: 'vhd', offset: 0, bytes: Buffer.from('conectix', 'latin1') },
  { name: 'vhdx', offset: 0, bytes: Buffer.from('vhdxfile', 'latin1') },
];

/** zstd's frames without content may come first: the last byte counts from 0x50 to 0x5f (RFC 8878 §3.1.2). */
const SKIPPABLE_FRAME = { offset: 1, bytes: Buffer.from([0x2a, 0x4d, 0x18]) };

/** Recognised, so that they are refused by name instead of being written to a disk as they are. */
const REFUSED: readonly Magic[] = [
  { name: 'bzip2', offset: 0, bytes: Buffer.from('BZh', 'latin1') },
  { name: 'lz4', offset: 0, bytes: Buffer.from([0x04, 0x22, 0x4d, 0x18]) },
  { name: 'lz4 of the old format', offset: 0, bytes: Buffer.from([0x02, 0x21, 0x4c, 0x18]) },
  { name: 'lzop', offset: 0, bytes: Buffer.from([0x89, 0x4c, 0x5a, 0x4f, 0x00, 0x0d, 0x0a, 0x1a, 0x0a]) },
  { name: 'compress (.Z)', offset: 0, bytes: Buffer.from([0x1f, 0x9d, 0x90]) },
  {
    name: 'the first part of a zip in several',
    offset: 0,
    bytes: Buffer.from('PK\x07\x08PK\x03\x04', 'latin1'),
  },
  { name: 'a backup of Proxmox VE (VMA)', offset: 0, bytes: Buffer.from('VMA\0', 'latin1') },
  { name: 'lzip', offset: 0, bytes: Buffer.from('LZIP', 'latin1') },
  { name: '7-Zip', offset: 0, bytes: Buffer.from([0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c]) },
  { name: 'RAR', offset: 0, bytes: Buffer.from('Rar!\x1a\x07', 'latin1') },
  { name: 'QED', offset: 0, bytes: Buffer.from('QED\0', 'latin1') },
  { name: 'a VMDK of ESX (COWD, vmfsSparse)', offset: 0, bytes: Buffer.from('COWD', 'latin1') },
  { name: 'a Parallels disk', offset: 0, bytes: Buffer.from('WithoutFreeSpace', 'latin1') },
  { name: 'a Parallels disk', offset: 0, bytes: Buffer.from('WithouFreSpacExt', 'latin1') },
  { name: 'an Android sparse image', offset: 0, bytes: Buffer.from([0x3a, 0xff, 0x26, 0xed]) },
  { name: 'a Windows image (WIM)', offset: 0, bytes: Buffer.from('MSWIM\0\0\0', 'latin1') },
  { name: 'an image of partclone', offset: 0, bytes: Buffer.from('partclone-image', 'latin1') },
  { name: 'an EWF image (E01)', offset: 0, bytes: Buffer.from('EVF\t\r\n\xff\0', 'latin1') },
  { name: 'zstd of a version before 0.8', offset: 0, bytes: Buffer.from([0x27, 0xb5, 0x2f, 0xfd]) },
  { name: 'an Apple disk image', offset: 0, bytes: Buffer.from('encrcdsa', 'latin1') },
];

/** A VMDK of several files begins with the list of them. */
const VMDK_DESCRIPTOR = { offset: 0, bytes: Buffer.from('# Disk DescriptorFile', 'latin1') };
/** What QEMU takes for one too: its first line that is no comment and not blank (`vmdk_probe` in `block/vmdk.c`). */
const VMDK_VERSION = /^(?:#[^\n]*\n| *\r?\n)*version=[123]\r?\n/;
/** Comments before that line may be as long. */
const VMDK_COMMENT_BYTES = 4096;

/** An answer meant for a browser: a login page, a directory listing, an error with status 200. */
const HTML = /^(?:\ufeff)?\s*<(?:(?:!doctype\s+html|html|head|meta|title|body|script)[\s>]|!--)/i;
/** An OVF, a Metalink, an error of an object store. */
const XML = /^(?:\ufeff)?<\?xml\s/;
/** What a Git server serves of a large file unless it is asked in another way (Git LFS specification, The Pointer). */
const LFS_POINTER = /^version https:\/\/git-lfs\.github\.com\/spec\/v1\n/;
/** The answer of an API: an object or a list, which no disk is. */
const JSON_TEXT = /^\s*[{[]/;

/** Text in the place of an image. */
interface Document {
  readonly name: string;
  readonly begins: RegExp;
  /** Whether it is one from its first byte to its last, where its beginning does not tell. */
  readonly isWhole?: (head: Buffer) => boolean;
}

const DOCUMENTS: readonly Document[] = [
  { name: 'an HTML page', begins: HTML },
  { name: 'an XML document', begins: XML },
  { name: 'the pointer of Git LFS to a file', begins: LFS_POINTER },
  { name: 'a JSON document', begins: JSON_TEXT, isWhole: isJson },
];

/**
 * Tells by magic numbers, never by a file's name, what bytes are. Everything unknown is a raw disk (an ISO is one);
 * with `expected` raw, everything that is no container.
 * @throws {@link FailureType} `ImageInvalid` (nothing, or an HTML page), `UnsupportedFormat` (a format that is not read)
 */
export function identify(head: Buffer, where: string, expected?: ImageFormat): Identity {
  if (head.length === 0) throw invalid(`${where} is empty: 0 bytes are no disk image`);
  const container = CONTAINERS.find((magic) => matches(head, magic));
  if (container) return { container: container.name };
  if (((head[0] ?? 0) & 0xf0) === 0x50 && matches(head, SKIPPABLE_FRAME)) return { container: 'zst' };
  // a guest may write what it likes to its first sector
  if (expected === 'raw') return isOldTar(head) ? { container: 'tar' } : { format: 'raw' };
  const format = FORMATS.find((magic) => matches(head, magic));
  if (format) return { format: format.name };
  if (matches(head, VMDK_DESCRIPTOR) || VMDK_VERSION.test(head.toString('latin1', 0, VMDK_COMMENT_BYTES)))
    throw hostile(
      `${where} is the descriptor of a VMDK, whose flat extents are other files: convert it to qcow2 or raw`,
    );
  const refused = REFUSED.find((magic) => matches(head, magic));
  if (refused)
    throw unsupported(
      `${where} is ${refused.name}, which this release does not read: convert it to qcow2 or raw`,
    );
  if (isLzma(head))
    throw unsupported(`${where} is lzma, which this release does not read: convert it to qcow2 or raw`);
  const text = head.toString('utf8', 0, 256);
  const document = DOCUMENTS.find(({ begins, isWhole }) => begins.test(text) && isWhole?.(head) !== false);
  if (document) throw invalid(`${where} is ${document.name}, not a disk image`);
  return isOldTar(head) ? { container: 'tar' } : { format: 'raw' };
}

function isJson(head: Buffer): boolean {
  try {
    JSON.parse(head.toString());
    return true;
  } catch {
    return false;
  }
}

/**
 * xz's predecessor has no magic: properties as all of its writers set them, a dictionary of a size that `xz` would take, a size that
 * is not given or below 256 GiB, and the 0 that its coder begins with.
 */
function isLzma(head: Buffer): boolean {
  if (head.length < 14 || head[0] !== 0x5d || head[13] !== 0) return false;
  const dictionary = head.readUInt32LE(1);
  const size = head.readBigUInt64LE(5);
  const bits = dictionary.toString(2);
  return /^11?0{12,}$/.test(bits) && (size === 0xffff_ffff_ffff_ffffn || size < 1n << 38n);
}

function matches(head: Buffer, { offset, bytes }: Pick<Magic, 'offset' | 'bytes'>): boolean {
  return head.subarray(offset, offset + bytes.length).equals(bytes);
}
