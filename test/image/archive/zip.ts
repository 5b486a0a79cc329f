import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { crc32, deflateRawSync } from 'node:zlib';

/** Info-ZIP, in a directory; what it writes to its output. */
export function infoZip(cwd: string, ...args: readonly string[]): Buffer {
  return execFileSync('zip', ['-q', ...args], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Info-ZIP from its input to a file: it cannot know beforehand that no 64-bit record is needed, and writes one. */
export function infoZipOf(path: string): Buffer {
  const archive = `${path}.piped.zip`;
  execFileSync('sh', ['-c', 'zip -q - - < "$1" > "$2"', 'sh', path, archive]);
  return readFileSync(archive);
}

/** The same from a real pipe, which Info-ZIP notes as the type of what it read. */
export function infoZipOfPipe(path: string): Buffer {
  const archive = `${path}.fifo.zip`;
  execFileSync('sh', ['-c', 'cat "$1" | zip -q - - > "$2"', 'sh', path, archive]);
  return readFileSync(archive);
}

/** One file of a hand-made archive, and where its descriptions lie. */
export interface ZipFields {
  readonly name?: string;
  readonly content?: Buffer | string;
  readonly method?: number;
  readonly flags?: number;
  /** Data in place of what the method makes of the content. */
  readonly data?: Buffer;
  readonly attributes?: number;
  /** What is said of it, here and in the directory, in place of the truth. */
  readonly says?: Partial<Record<'crc32' | 'compressedSize' | 'size', number>>;
  /** The same, in the local header only. */
  readonly local?: Partial<
    Record<'crc32' | 'compressedSize' | 'size' | 'flags' | 'method' | 'signature', number>
  > & {
    readonly name?: string;
  };
  /** What follows the data. */
  readonly after?: Buffer;
}

/** What the end record says in place of the truth. */
export interface EndFields {
  readonly records?: number;
  readonly onDisk?: number;
  readonly disk?: number;
  readonly length?: number;
  readonly offset?: number;
  readonly comment?: string;
}

interface Description {
  readonly signature: number;
  readonly flags: number;
  readonly method: number;
  readonly crc32: number;
  readonly compressedSize: number;
  readonly size: number;
  readonly name: string;
}

/** A zip archive made by hand, so that it can lie. */
export function zipArchive(files: readonly ZipFields[], end: EndFields = {}): Buffer {
  const locals: Buffer[] = [];
  const records: Buffer[] = [];
  let offset = 0;
  for (const file of files) {
    const { name = 'disk.img', method = 8, flags = 0, says = {}, local = {}, attributes = 0 } = file;
    const content = Buffer.from(file.content ?? '');
    const data = file.data ?? (method === 8 ? deflateRawSync(content) : content);
    const truth = {
      flags,
      method,
      crc32: crc32(content),
      compressedSize: data.length,
      size: content.length,
      name,
      ...says,
    };
    records.push(directoryRecord({ signature: 0x02014b50, ...truth }, offset, attributes));
    const bytes = Buffer.concat([
      localHeader({ signature: 0x04034b50, ...truth, ...local }),
      data,
      file.after ?? Buffer.alloc(0),
    ]);
    locals.push(bytes);
    offset += bytes.length;
  }
  const directory = Buffer.concat(records);
  return Buffer.concat([...locals, directory, endRecord(files.length, directory.length, offset, end)]);
}

function localHeader({
  signature,
  flags,
  method,
  crc32: crc,
  compressedSize,
  size,
  name,
}: Description): Buffer {
  const header = Buffer.alloc(30);
  header.writeUInt32LE(signature, 0);
  header.writeUInt16LE(20, 4);
  header.writeUInt16LE(flags, 6);
  header.writeUInt16LE(method, 8);
  header.writeUInt32LE(crc, 14);
  header.writeUInt32LE(compressedSize, 18);
  header.writeUInt32LE(size, 22);
  header.writeUInt16LE(Buffer.byteLength(name), 26);
  return Buffer.concat([header, Buffer.from(name)]);
}

function directoryRecord(description: Description, offset: number, attributes: number): Buffer {
  const { signature, flags, method, crc32: crc, compressedSize, size, name } = description;
  const record = Buffer.alloc(46);
  record.writeUInt32LE(signature, 0);
  record.writeUInt16LE((3 << 8) | 20, 4);
  record.writeUInt16LE(20, 6);
  record.writeUInt16LE(flags, 8);
  record.writeUInt16LE(method, 10);
  record.writeUInt32LE(crc, 16);
  record.writeUInt32LE(compressedSize, 20);
  record.writeUInt32LE(size, 24);
  record.writeUInt16LE(Buffer.byteLength(name), 28);
  record.writeUInt32LE(attributes, 38);
  record.writeUInt32LE(offset, 42);
  return Buffer.concat([record, Buffer.from(name)]);
}

function endRecord(count: number, length: number, offset: number, end: EndFields): Buffer {
  const comment = Buffer.from(end.comment ?? '');
  const record = Buffer.alloc(22);
  record.writeUInt32LE(0x06054b50, 0);
  record.writeUInt16LE(end.disk ?? 0, 4);
  record.writeUInt16LE(end.onDisk ?? end.records ?? count, 8);
  record.writeUInt16LE(end.records ?? count, 10);
  record.writeUInt32LE(end.length ?? length, 12);
  record.writeUInt32LE(end.offset ?? offset, 16);
  record.writeUInt16LE(comment.length, 20);
  return Buffer.concat([record, comment]);
}

/** A data descriptor. */
export function descriptor(
  { content, data }: { content: Buffer; data: Buffer },
  { signed, wide }: { signed: boolean; wide: boolean },
): Buffer {
  const bytes = Buffer.alloc(24);
  let at = 0;
  if (signed) at = bytes.writeUInt32LE(0x08074b50, 0);
  at = bytes.writeUInt32LE(crc32(content), at);
  for (const size of [data.length, content.length])
    at = wide ? bytes.writeBigUInt64LE(BigInt(size), at) : bytes.writeUInt32LE(size, at);
  return bytes.subarray(0, at);
}
