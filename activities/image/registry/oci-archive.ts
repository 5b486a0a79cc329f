import { permanentFailure } from '../../failures.js';
import { createFileSource } from '../source/file-source.js';
import { invalid } from '../refusals.js';
import type { SourceOptions } from '../source/types.js';
import { openArchive, type ArchiveFiles } from './archive-files.js';
import { verifyBytes } from './content-digest.js';
import { MANIFEST_LIMIT, parseManifest, type Descriptor, type IndexEntry } from './manifest.js';
import type { ArchiveReference } from './reference.js';
import type { ImageStore, ManifestDocument } from './store.js';

/**
 * An archive of the OCI layout (`oci-layout`, `index.json`, `blobs/sha256/…`) as skopeo and buildah write it. Only regular files
 * of the archive are read; links in it are nobody's blobs.
 *
 * @throws {@link FailureType} `SourceNotFound`, `SourceForbidden`
 */
export function createArchiveStore(reference: ArchiveReference, options: SourceOptions): ImageStore {
  const display = options.displayUrl ?? reference.display;
  const source = createFileSource({ path: reference.path }, options);
  let opening: Promise<ArchiveFiles> | undefined;
  const files = (): Promise<ArchiveFiles> => (opening ??= openArchive(source, display));

  async function manifest(descriptor: Descriptor): Promise<ManifestDocument> {
    const bytes = await (await files()).read(pathOf(descriptor), MANIFEST_LIMIT);
    verifyBytes(bytes, descriptor.digest, `manifest of ${display}`);
    return { bytes, mediaType: descriptor.mediaType };
  }

  async function root(): Promise<ManifestDocument> {
    const index = await (await files()).read('index.json', MANIFEST_LIMIT);
    const parsed = parseManifest(index, undefined, display);
    if (parsed.kind !== 'index') throw invalid(`index.json of ${display} is no index`);
    return await manifest(choose(parsed.entries, reference, display));
  }

  async function* blob(descriptor: Descriptor): AsyncGenerator<Buffer> {
    yield* (await files()).open(pathOf(descriptor));
  }

  return {
    display,
    root,
    manifest,
    blob,
    get bytesRead() {
      return source.bytesRead;
    },
    close: () => source.close(),
  };
}

function pathOf({ digest }: Descriptor): string {
  return `blobs/${digest.replace(':', '/')}`;
}

function choose(entries: readonly IndexEntry[], { name }: ArchiveReference, display: string): IndexEntry {
  const named = name === undefined ? entries : entries.filter((entry) => entry.name === name);
  const [first, ...more] = named;
  if (!first)
    throw permanentFailure('SourceNotFound', `${display}: none of ${entries.length} images has this name`);
  if (more.length > 0 && name === undefined)
    throw permanentFailure(
      'InvalidDataVolume',
      `${display} holds ${entries.length} images: name one, as in oci-archive:path:name`,
    );
  return first;
}
