import { hostile, invalid } from '../refusals.js';
import type { SourceNotice } from '../source/types.js';
import { shownName } from '../../shown-name.js';
import { readHeaders, type TarHeaders } from './tar-headers.js';
import { BLOCK, cutShort } from './tar-header.js';
import { createStreamInput, type ArchiveInput } from './archive-input.js';
import { denseMap, expanded, placed, type SparseMap, type TarExtent } from './tar-sparse.js';
import { readSparseMap } from './tar-sparse-map.js';

const ZEROS = Buffer.alloc(64 * 1024);

export type TarEntryType =
  'file' | 'directory' | 'symlink' | 'hardlink' | 'fifo' | 'character' | 'block' | 'other';

const TYPES: Readonly<Record<string, TarEntryType>> = {
  '\0': 'file',
  '0': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
  '7': 'file',
  D: 'directory',
  S: 'file',
};

/** One entry of an archive. Its content can be read until the next entry is asked for. */
export interface TarEntry {
  /** As the archive says it, read as UTF-8; nothing is taken out or made absolute. */
  readonly name: string;
  readonly nameBytes: Buffer;
  readonly type: TarEntryType;
  /** The type as it is written: `0`, `S`, `M`. */
  readonly typeflag: string;
  /** Bytes of the content, holes included; 0 for everything but a file. */
  readonly size: number;
  /** Permission bits, set-user-ID, set-group-ID and sticky bit. */
  readonly mode: number;
  /** In seconds since the epoch, with a fraction where the archive has one. */
  readonly mtime: number;
  /** Target of a symbolic or hard link, else empty. */
  readonly linkName: string;
  readonly linkBytes: Buffer;
  /** Offset in the archive of the packed data of a file: its stretches, one behind the other. */
  readonly dataOffset: number;
  readonly map: SparseMap;
  /** Exactly `size` bytes, holes as zeros from memory that is shared; read once or not at all. @throws {@link FailureType} `ImageInvalid` where the archive is cut short */
  content(): AsyncGenerator<Buffer>;
  /** The same without the holes. */
  dataExtents(): AsyncGenerator<TarExtent>;
}

/** What a reader says besides the entries. */
export interface TarReaderOptions {
  /** Told of a missing end marker, and of bytes after it that are no padding. */
  readonly notice?: SourceNotice;
}

/**
 * Reads a tar archive: v7, ustar, PAX and GNU, their long names, large sizes and sparse files. Every header's checksum is
 * verified. Content that is not read is passed over. The stream is read to its very end.
 * @throws {@link FailureType} `ImageInvalid` where the archive is damaged or cut short, `ImageHostile`, `UnsupportedFormat`
 */
export async function* readTar(
  bytes: AsyncIterable<Buffer>,
  { notice }: TarReaderOptions = {},
): AsyncGenerator<TarEntry> {
  const input = createStreamInput(bytes);
  try {
    const { marked, begun } = yield* readEntries(input);
    if (!marked) notice?.('tar archive has no end marker: it ends after an entry');
    const rest = await readRest(input);
    if (rest > 0 && !begun)
      throw invalid(`not a tar archive: it begins with zeros, and ${rest} bytes follow`);
    if (rest > 0) notice?.(`tar archive is followed by ${rest} bytes that are no padding: ignored`);
  } finally {
    await input.close();
  }
}

/** The entries, up to the end marker; whether there was one, and any entry before it. */
export async function* readEntries(
  input: ArchiveInput,
): AsyncGenerator<TarEntry, { marked: boolean; begun: boolean }> {
  const globals = new Map<string, Buffer>();
  for (let begun = false; ; begun = true) {
    const headers = await readHeaders(input, globals);
    if (typeof headers === 'string') {
      if (input.position === 0) throw invalid('tar archive is empty: 0 bytes hold no entry');
      return { marked: headers === 'marker', begun };
    }
    const { entry, end, leave } = await openEntry(input, headers);
    yield entry;
    leave();
    if (!(await input.skip(end - input.position))) throw cutShort(input, shownName(entry.name));
  }
}

/** An entry whose data comes next in the input, and where that data ends, padding included. */
async function openEntry(
  input: ArchiveInput,
  headers: TarHeaders,
): Promise<{ entry: TarEntry; end: number; leave: () => void }> {
  const { name, link, stored, header, pax, mtime } = headers;
  const shown = shownName(name.toString());
  const type = typeOf(headers);
  const isFile = type === 'file';
  const map = isFile ? await readSparseMap(input, { name: shown, header, pax, stored }) : denseMap(0);
  const dataOffset = input.position;
  let unread = true;

  async function* packed(): AsyncGenerator<Buffer> {
    if (!unread) throw new Error(`content of ${shown} can be read once, before the next entry`);
    unread = false;
    for (let left = map.packedSize; left > 0;) {
      if (input.position !== dataOffset + map.packedSize - left)
        throw new Error(`content of ${shown} is read after the next entry was asked for`);
      const piece = await input.next(left);
      if (!piece) throw cutShort(input, shown);
      left -= piece.length;
      yield piece;
    }
  }

  const dataExtents = (): AsyncGenerator<TarExtent> => placed(packed(), map, 0);
  const entry: TarEntry = {
    name: name.toString(),
    nameBytes: name,
    type,
    typeflag: header.typeflag,
    size: map.size,
    mode: header.mode,
    mtime,
    linkName: link.toString(),
    linkBytes: link,
    dataOffset,
    map,
    content: () => expanded(dataExtents(), { start: 0, size: map.size }),
    dataExtents,
  };
  return { entry, end: dataOffset + padded(isFile ? map.packedSize : stored), leave: () => (unread = false) };
}

/** Archives before POSIX have no type for a directory: its name ends in a slash. */
function typeOf({ header, name }: TarHeaders): TarEntryType {
  const type = TYPES[header.typeflag] ?? 'other';
  return type === 'file' && name.at(-1) === 0x2f ? 'directory' : type;
}

/** Padding to the end of a tape or a disk is ordinary; what a decompressor makes without end is not. */
const MOST_REST = { timesTheArchive: 16, moreBytes: 1024 ** 3 };

function padded(bytes: number): number {
  return Math.ceil(bytes / BLOCK) * BLOCK;
}

/** Reads to the end; the bytes after the second block of zeros, up to the last one that is not 0. */
async function readRest(input: ArchiveInput): Promise<number> {
  const start = input.position + BLOCK;
  const most = start * MOST_REST.timesTheArchive + MOST_REST.moreBytes;
  let rest = 0;
  for (let piece = await input.next(ZEROS.length); piece; piece = await input.next(ZEROS.length)) {
    if (input.position - start > most)
      throw hostile(`tar archive ends at ${start}, and more than ${most} bytes follow: they may have no end`);
    const padding = piece.equals(ZEROS.subarray(0, piece.length)) ? piece.length : zerosAtEnd(piece);
    if (padding < piece.length) rest = input.position - padding - start;
  }
  return rest;
}

function zerosAtEnd(bytes: Buffer): number {
  let count = 0;
  while (bytes.at(-1 - count) === 0) count += 1;
  return count;
}
