import { createRangedInput, createStreamInput, MOST_READS } from '../archive/archive-input.js';
import { readEntries, type TarEntry } from '../archive/tar-reader.js';
import { hostile, invalid } from '../refusals.js';
import type { ImageSource } from '../source/types.js';
import { CONFIG_LIMIT } from './image-config.js';
import { compressionOf, decoded } from './layer.js';

const PIECE = 1024 * 1024;
/** Entries of an archive; an image has at most some hundreds. */
const MOST_ENTRIES = 100_000;
/** Reads that their headers may take: behind a blob each one takes a read, besides those that any archive may take. */
const MOST_HEADER_READS = MOST_ENTRIES + MOST_READS;
/** Small files of a compressed archive that are kept, in bytes, so that it is not decoded once for each of them. */
const MOST_KEPT = 32 * 1024 * 1024;
/** What the OCI layout has; anything else in the archive is nobody's. */
const LAYOUT = /^(?:oci-layout|index\.json|blobs\/(?:sha256|sha512)\/[0-9a-f]{64,128})$/u;

/** The files of an OCI layout inside of an archive. */
export interface ArchiveFiles {
  /** A small file, whole. @throws {@link FailureType} `ImageInvalid` where it is missing or longer */
  read(name: string, limit: number): Promise<Buffer>;
  /** The bytes of a file in order. @throws {@link FailureType} `ImageInvalid` where it is missing */
  open(name: string): AsyncIterable<Buffer>;
}

/** How one kind of archive hands out a file; `undefined`: it has none of this name. */
type Opener = (name: string) => AsyncIterable<Buffer> | undefined;

/**
 * Opens an archive. A plain tar is indexed by its headers, and files are read from where they are; a compressed one is decoded
 * from its start for each large file.
 *
 * @throws {@link FailureType} `ImageInvalid` where the archive is damaged or no OCI layout
 */
export async function openArchive(source: ImageSource, display: string): Promise<ArchiveFiles> {
  const { head, validators } = await source.probe();
  const size = validators.length ?? head.length;
  const openFile = compressionOf(head)
    ? await scanned(source, display)
    : await indexed(source, display, { size, head });
  const files = filesOf(openFile, display);
  await files.read('oci-layout', PIECE);
  return files;
}

async function indexed(
  source: ImageSource,
  display: string,
  { size, head }: { readonly size: number; readonly head: Buffer },
): Promise<Opener> {
  const places = new Map<string, { offset: number; size: number }>();
  for await (const { name, entry } of layoutEntries(
    readEntries(createRangedInput(source, { size, head, mostReads: MOST_HEADER_READS })),
    display,
  )) {
    if (entry.map.packedSize !== entry.size) throw invalid(`${display}: a file of the OCI layout is sparse`);
    places.set(name, { offset: entry.dataOffset, size: entry.size });
  }
  return (name) => {
    const place = places.get(name);
    return place && section(source, place.offset, place.size);
  };
}

async function* section(source: ImageSource, offset: number, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < size; at += PIECE) {
    const piece = Buffer.allocUnsafeSlow(Math.min(PIECE, size - at));
    await source.readInto(offset + at, piece);
    yield piece;
  }
}

async function scanned(source: ImageSource, display: string): Promise<Opener> {
  const kept = new Map<string, Buffer>();
  const large = new Set<string>();
  let room = MOST_KEPT;
  for await (const { name, entry } of decodedEntries(source, display)) {
    kept.delete(name);
    large.delete(name);
    if (entry.size <= Math.min(CONFIG_LIMIT, room)) {
      kept.set(name, await collect(entry.content()));
      room -= entry.size;
    } else {
      large.add(name);
    }
  }

  async function* again(wanted: string): AsyncGenerator<Buffer> {
    for await (const { name, entry } of decodedEntries(source, display)) {
      if (name !== wanted) continue;
      yield* entry.content();
      return;
    }
    throw invalid(`${display} no longer has a file that it had`);
  }

  return (name) => {
    const bytes = kept.get(name);
    if (bytes) return once(bytes);
    return large.has(name) ? again(name) : undefined;
  };
}

async function* decodedEntries(source: ImageSource, display: string): AsyncGenerator<LayoutEntry> {
  const { tar } = await decoded(source.stream(0));
  const input = createStreamInput(tar);
  try {
    yield* layoutEntries(readEntries(input), display);
  } finally {
    await input.close();
  }
}

interface LayoutEntry {
  readonly name: string;
  readonly entry: TarEntry;
}

/** The regular files that belong to the layout. */
async function* layoutEntries(
  entries: AsyncIterable<TarEntry>,
  display: string,
): AsyncGenerator<LayoutEntry> {
  let count = 0;
  for await (const entry of entries) {
    if (++count > MOST_ENTRIES) throw hostile(`${display} has more than ${MOST_ENTRIES} entries`);
    const name = entry.name.replace(/^(?:\.\/)+/u, '');
    if (entry.type === 'file' && LAYOUT.test(name)) yield { name, entry };
  }
}

function filesOf(openFile: Opener, display: string): ArchiveFiles {
  function open(name: string): AsyncIterable<Buffer> {
    const bytes = openFile(name);
    if (!bytes) throw invalid(`${display} is no complete OCI archive: it has no ${name}`);
    return bytes;
  }
  return {
    open,
    read: async (name, limit) => await collect(open(name), { limit, what: `${name} of ${display}` }),
  };
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

async function collect(
  chunks: AsyncIterable<Buffer>,
  bound?: { readonly limit: number; readonly what: string },
): Promise<Buffer> {
  const all: Buffer[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    length += chunk.length;
    if (bound && length > bound.limit) throw invalid(`${bound.what} is longer than ${bound.limit} bytes`);
    all.push(chunk);
  }
  return Buffer.concat(all, length);
}
