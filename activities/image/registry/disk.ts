import { failureTypeOf, permanentFailure } from '../../failures.js';
import type { TarEntry } from '../archive/tar-reader.js';
import { hostile, invalid, unsupported } from '../refusals.js';
import type { SourceNotice } from '../source/types.js';
import type { ResolvedImage } from './image.js';
import { openLayer, type LayerCompression } from './layer.js';
import { mayBeFiles, type Descriptor } from './manifest.js';
import type { ImageStore } from './store.js';
import { verifyBlob, type VerifiedBlob } from './verified-blob.js';
import { createHidden, judgeEntry, type DiskEntry } from './whiteouts.js';

/** Entries of one layer, and bytes of it besides the disk: an honest image is far below, a bomb is not read to its end. */
const MOST_ENTRIES = 10_000_000;
const MOST_BESIDE = 64 * 1024 ** 3;
const MOST_MARKS = 20_000;

/** Where the disk was found. */
export interface FoundDisk {
  readonly layer: Descriptor;
  readonly compression?: LayerCompression;
  /** Of the file, in bytes. */
  readonly size: number;
}

/** What a disk is searched in and held to. */
export interface DiskSearch {
  readonly store: ImageStore;
  readonly image: ResolvedImage;
  /** `algorithm:hex` of the blob that holds the disk, as served. */
  readonly checksum: string | undefined;
  /** See {@link ImageStore.blob}. */
  readonly inOneAnswer: boolean;
  /** Called before the first byte. */
  readonly found: (disk: FoundDisk) => void;
  readonly notice: SourceNotice;
}

/**
 * Reads the disk of an image out of the layer that holds it, from the topmost layer down; each call of the result reads it from
 * its start. Every blob that is opened is read to its end and held to its digest: the layers above the disk before its first
 * byte, its own layer before the end. So a layer that does not belong to the image is noticed although its bytes are on their way.
 */
export function createDiskReader(search: DiskSearch): () => AsyncGenerator<Buffer> {
  const { store, image } = search;
  const hidden = createHidden();
  let index = image.layers.length - 1;

  return async function* readDisk() {
    for (; index >= 0 && !hidden.all; index -= 1) {
      const descriptor = image.layers[index];
      if (!descriptor) break;
      const what = `layer ${index + 1} of ${image.layers.length} of ${store.display}`;
      if (!mayBeFiles(descriptor)) {
        search.notice(
          `${what} is passed over: its media type ${quoted(descriptor.mediaType)} is none of files`,
        );
        continue;
      }
      const bytes = store.blob(descriptor, search.inOneAnswer);
      const blob = verifyBlob(bytes, { descriptor, checksum: search.checksum, what });
      const marks: DiskEntry[] = [];
      try {
        if (yield* readLayer({ search, blob, descriptor, what }, (name) => hidden.has(name), marks)) return;
      } finally {
        await blob.close();
      }
      hidden.add(marks);
      search.notice(`${what} holds no disk`);
    }
    throw invalid(`Failed to find VM disk image file in the container image ${store.display}`);
  };
}

interface OpenedLayer {
  readonly search: DiskSearch;
  readonly blob: VerifiedBlob;
  readonly descriptor: Descriptor;
  readonly what: string;
}

/** Delivers the disk if the layer holds one; true if it does. `marks` gets what the layer hides. */
async function* readLayer(
  layer: OpenedLayer,
  isHidden: (name: string) => boolean,
  marks: DiskEntry[],
): AsyncGenerator<Buffer, boolean> {
  const { search, blob, descriptor, what } = layer;
  const { compression, entries } = await openedLayer(layer);
  const bounds = createBounds(what);
  let delivered = false;
  for await (const entry of blamed(entries, layer)) {
    const place = judgeEntry(entry, what);
    if (place.kind !== 'elsewhere' && marks.push(place) > MOST_MARKS)
      throw hostile(`${what} has more than ${MOST_MARKS} entries about the disk`);
    if (place.kind !== 'file' || isHidden(place.name)) {
      bounds.passOver(entry);
      continue;
    }
    requireRegular(entry, what);
    if (delivered) throw invalid(`${what}: image directory contains more than one file`);
    search.found({ layer: descriptor, size: entry.size, ...(compression ? { compression } : {}) });
    delivered = true;
    yield* blamed(entry.content(), layer);
  }
  await blob.finish();
  if (delivered) blob.requireChecksum();
  return delivered;
}

async function openedLayer(layer: OpenedLayer): Promise<Awaited<ReturnType<typeof openLayer>>> {
  try {
    return await openLayer(layer.blob.bytes);
  } catch (error) {
    throw await blame(error, layer);
  }
}

/** The same items. Where they cannot be decoded because the registry served other bytes than it promised, that is the failure. */
async function* blamed<T>(items: AsyncIterable<T>, layer: OpenedLayer): AsyncGenerator<T> {
  try {
    yield* items;
  } catch (error) {
    throw await blame(error, layer);
  }
}

/** The error, which says of which layer it is. @throws `ChecksumMismatch` where the registry is to blame */
async function blame(error: unknown, { blob, descriptor, what }: OpenedLayer): Promise<unknown> {
  const type = failureTypeOf(error);
  if (type !== 'ImageInvalid' && type !== 'ImageHostile') return error;
  await blob.finish();
  const { message } = error as Error;
  return permanentFailure(type, `${what} (${descriptor.digest}): ${message}`, error);
}

/** Text of a manifest as a message may hold it. */
function quoted(mediaType: string): string {
  return JSON.stringify(mediaType).replaceAll(/[^ -~]/gu, '?');
}

/** Links are not followed, even inside of the layer: what they lead to would have to be read before or after. */
function requireRegular({ type }: TarEntry, what: string): void {
  if (type === 'file') return;
  const names = { symlink: 'a symbolic link', hardlink: 'a hard link' } as const;
  const name = type === 'symlink' || type === 'hardlink' ? names[type] : 'no regular file';
  throw unsupported(`${what}: the image directory contains ${name}, only a regular file can be imported`);
}

function createBounds(what: string): { passOver(entry: TarEntry): void } {
  let entries = 0;
  let beside = 0;
  return {
    passOver({ map }) {
      entries += 1;
      beside += map.packedSize;
      if (entries > MOST_ENTRIES || beside > MOST_BESIDE)
        throw permanentFailure(
          'ImageHostile',
          `${what} has more than ${MOST_ENTRIES} entries or ${MOST_BESIDE} bytes besides the disk`,
        );
    },
  };
}
