import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, createReadStream, openSync, truncateSync, writeSync } from 'node:fs';
import { readTar, type TarEntry } from '../../../activities/image/archive/tar-reader.js';

/** Runs GNU tar; what it prints. */
export function gnuTar(...args: readonly string[]): string {
  return execFileSync('tar', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** A file in chunks of this many bytes, as a source would deliver it. */
export async function* fileInChunks(path: string, bytes = 100_000): AsyncGenerator<Buffer> {
  for await (const chunk of createReadStream(path, { highWaterMark: bytes })) yield chunk as Buffer;
}

/** Bytes in chunks. */
export async function* inChunks(content: Buffer, bytes = 100_000): AsyncGenerator<Buffer> {
  for (let at = 0; at < content.length; at += bytes) yield content.subarray(at, at + bytes);
}

/** Everything of a stream. */
export async function gather(bytes: AsyncIterable<Buffer>): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of bytes) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** Digest of a stream, and how long it was. */
export async function digest(bytes: AsyncIterable<Buffer>): Promise<{ sha256: string; length: number }> {
  const hash = createHash('sha256');
  let length = 0;
  for await (const piece of bytes) {
    hash.update(piece);
    length += piece.length;
  }
  return { sha256: hash.digest('hex'), length };
}

/** A file of `size` bytes with text of 700 bytes at each of these offsets, and holes around it. */
export function makeSparse(path: string, size: number, offsets: readonly number[]): string {
  const fd = openSync(path, 'w');
  for (const offset of offsets) writeSync(fd, `data at ${offset};`.padEnd(700, 'x'), offset);
  closeSync(fd);
  truncateSync(path, size);
  return path;
}

/** What a hand-made header holds. */
export interface HeaderFields {
  readonly name?: string;
  readonly size?: number | Buffer;
  readonly type?: string;
  readonly link?: string;
  readonly mode?: number;
  readonly mtime?: number;
  readonly magic?: string;
  /** Bytes written over the block before its checksum is made. */
  readonly raw?: readonly (readonly [offset: number, bytes: Buffer])[];
}

/** One header block, made by hand, so that it can lie. */
export function tarHeader(fields: HeaderFields): Buffer {
  const { name = 'file', size = 0, type = '0', link = '', mode = 0o644, mtime = 1_000_000_000 } = fields;
  const block = Buffer.alloc(512);
  const octal = (value: number, digits: number): string => `${value.toString(8).padStart(digits, '0')}\0`;
  block.write(name, 0, 100);
  block.write(octal(mode, 7), 100);
  block.write(octal(0, 7), 108);
  block.write(octal(0, 7), 116);
  if (typeof size === 'number') block.write(octal(size, 11), 124);
  else size.copy(block, 124);
  block.write(octal(mtime, 11), 136);
  block.write(type, 156);
  block.write(link, 157, 100);
  block.write(fields.magic ?? 'ustar\x0000', 257, 'latin1');
  for (const [offset, bytes] of fields.raw ?? []) bytes.copy(block, offset);
  block.fill(' ', 148, 156);
  block.write(
    `${block
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, '0')}\0 `,
    148,
  );
  return block;
}

/** A header and the content after it, padded. */
export function tarEntry(fields: HeaderFields, content: Buffer | string = ''): Buffer {
  const bytes = Buffer.from(content);
  const padding = Buffer.alloc((512 - (bytes.length % 512)) % 512);
  return Buffer.concat([tarHeader({ size: bytes.length, ...fields }), bytes, padding]);
}

/** A PAX header for the next entry (`x`) or all that follow (`g`). */
export function paxHeader(
  records: readonly (readonly [keyword: string, value: string])[],
  type = 'x',
): Buffer {
  const text = records.map(([keyword, value]) => {
    const rest = Buffer.byteLength(` ${keyword}=${value}\n`);
    let length = rest;
    while (length !== rest + `${length}`.length) length = rest + `${length}`.length;
    return `${length} ${keyword}=${value}\n`;
  });
  return tarEntry({ name: 'pax', type }, text.join(''));
}

/** Entries and the end marker. */
export function tarArchive(...entries: readonly Buffer[]): Buffer {
  return Buffer.concat([...entries, Buffer.alloc(1024)]);
}

/** The pairs of an old GNU sparse header, `[offset, length]` each. */
export function sparsePairs(pairs: readonly (readonly [number, number])[]): Buffer {
  return Buffer.from(
    pairs
      .flat()
      .map((value) => `${value.toString(8).padStart(11, '0')}\0`)
      .join(''),
    'latin1',
  );
}

/** An entry as the reader gives it, with the digest of its content. */
export type ReadEntry = Pick<TarEntry, 'name' | 'type' | 'size' | 'mode' | 'mtime' | 'linkName'> & {
  readonly sha256: string;
};

/** Reads an archive to its end; each content is as long as the entry says. */
export async function readArchive(bytes: AsyncIterable<Buffer>): Promise<ReadEntry[]> {
  const read: ReadEntry[] = [];
  for await (const entry of readTar(bytes)) {
    const { name, type, size, mode, mtime, linkName } = entry;
    const { sha256, length } = await digest(entry.content());
    assert.equal(length, size, name);
    read.push({ name, type, size, mode, mtime, linkName, sha256 });
  }
  return read;
}
