import { permanentFailure } from '../../failures.js';
import { invalid } from '../refusals.js';
import { verifyBytes } from './content-digest.js';
import { assertImportable, CONFIG_LIMIT, parseConfig, type ImageConfig } from './image-config.js';
import { MANIFEST_LIMIT, parseManifest, type Descriptor } from './manifest.js';
import { isPlain, ownArchitecture, selectManifest, type WantedMachine } from './platform.js';
import type { RegistryRequest } from '../source/types.js';
import type { ImageStore } from './store.js';

/** An index may name indexes; so deep at most. */
const MOST_INDEXES = 3;

/** One image, all of it held to its digests. */
export interface ResolvedImage {
  readonly config: ImageConfig;
  /** From the lowest to the topmost. */
  readonly layers: readonly Descriptor[];
  /** That by which it was chosen out of an index, else that of its configuration; absent where it is no plain word. */
  readonly architecture?: string;
}

/** Which image of an index is meant. */
export type ImageChoice = Pick<RegistryRequest, 'architecture' | 'defaultArchitecture'>;

/**
 * Finds the image for a machine, reads its configuration and refuses what cannot be imported.
 * @throws {@link FailureType} `SourceNotFound`, `ChecksumMismatch`, `ImageInvalid`, `ImageHostile`, `UnsupportedFormat`, and
 * what the store throws
 */
export async function resolveImage(
  store: ImageStore,
  { architecture: requested, defaultArchitecture = ownArchitecture() }: ImageChoice,
): Promise<ResolvedImage> {
  const { display } = store;
  let wanted: WantedMachine = {
    architecture: requested ?? defaultArchitecture,
    named: requested !== undefined,
  };
  let chosen: string | undefined;
  let document = await store.root();
  for (let indexes = 0; indexes <= MOST_INDEXES; indexes += 1) {
    const manifest = parseManifest(document.bytes, document.mediaType, display);
    if (manifest.kind === 'image') {
      const bytes = await readBlob(store, manifest.config, CONFIG_LIMIT);
      const config = parseConfig(bytes, display);
      assertImportable(config, requested, display);
      const architecture = chosen ?? config.architecture;
      return { config, layers: manifest.layers, ...(isPlain(architecture) ? { architecture } : {}) };
    }
    const selected = selectManifest(manifest.entries, wanted, display);
    chosen = selected.architecture ?? wanted.architecture;
    wanted = { ...wanted, architecture: chosen };
    requireSize(selected, MANIFEST_LIMIT, `manifest of ${display}`);
    document = await store.manifest(selected);
  }
  throw invalid(`${display} has more than ${MOST_INDEXES} indexes inside of each other`);
}

async function readBlob(store: ImageStore, blob: Descriptor, limit: number): Promise<Buffer> {
  const what = `configuration of ${store.display}`;
  requireSize(blob, limit, what);
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of store.blob(blob, true)) {
    length += chunk.length;
    if (length > blob.size) break;
    chunks.push(chunk);
  }
  if (length !== blob.size)
    throw permanentFailure(
      'ChecksumMismatch',
      `${what}: ${blob.digest} has ${blob.size} bytes, ${length > blob.size ? 'more' : length} were served`,
    );
  const bytes = Buffer.concat(chunks, length);
  verifyBytes(bytes, blob.digest, what);
  return bytes;
}

function requireSize({ size }: Descriptor, limit: number, what: string): void {
  if (size > limit) throw invalid(`${what} has ${size} bytes, more than ${limit}`);
}
