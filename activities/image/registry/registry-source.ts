import { permanentFailure } from '../../failures.js';
import type { Container } from '../../types.js';
import { parseChecksum } from '../source/checksum.js';
import { changed } from '../source/http-failures.js';
import { differenceBetween } from '../source/ranges.js';
import { createStreamedSource } from '../source/streamed-source.js';
import type {
  ImageSource,
  RegistryRequest,
  SourceFacts,
  SourceNotice,
  SourceOptions,
} from '../source/types.js';
import { createDiskReader, type FoundDisk } from './disk.js';
import { resolveImage, type ResolvedImage } from './image.js';
import { createArchiveStore } from './oci-archive.js';
import { parseReference, type ImageReference } from './reference.js';
import { createRegistryClient } from './registry-client.js';
import type { ImageStore } from './store.js';
import { refuseWrapped } from './wrapped-disk.js';

/** A container disk as a source: the bytes of the file in its directory `disk`. */
export interface RegistrySource extends ImageSource {
  /**
   * Kubernetes labels that the image's `KUBEVIRT_IO_*` variables mean (CDI puts them on the claim). Reads manifest and
   * configuration if nobody has.
   */
  labels(): Promise<Readonly<Record<string, string>>>;
  architecture(): Promise<string | undefined>;
  /** What the disk is inside of, outermost first: `oci`, `gz`, `tar`. Complete after the probe. */
  readonly containers: readonly Container[];
}

/**
 * Opens a container disk in a registry or in an OCI archive. Nothing is sent before a method is called. The disk is streamed out
 * of its layer; the stream ends after the layer's digest and, if there is one, the checksum were verified. There are no ranges,
 * even where a layer is not compressed: parts of a blob cannot be held to its digest. The validators of a blob's
 * answers are compared, as those of any server: a change is known before the last byte. Where they contradict each other,
 * `inOneAnswer` has the digest as its only proof.
 *
 * @throws {@link FailureType} `InvalidDataVolume`, `UnsupportedSource` (an archive where only a command line may read files)
 */
export async function createRegistrySource(
  request: RegistryRequest,
  options: SourceOptions,
): Promise<RegistrySource> {
  const reference = parseReference(request.url);
  if (request.checksum !== undefined) parseChecksum(request.checksum);
  const store = openStore(reference, request, options);
  const image = createImage(store, request, options);
  const opened: DiskSource[] = [];

  function open(inOneAnswer: boolean): DiskSource {
    const source = createDiskSource({ store, image, request, options, inOneAnswer });
    opened.push(source);
    return source;
  }

  const disk = open(false);
  return {
    verifiesItself: true,
    probe: () => disk.probe(),
    stream: (start) => disk.stream(start),
    readInto: (start, target) => disk.readInto(start, target),
    ...(reference.kind === 'docker' ? { inOneAnswer: () => open(true) } : {}),
    labels: async () => (await image()).config.labels,
    architecture: async () => (await image()).architecture,
    get containers() {
      return disk.containers();
    },
    get bytesRead() {
      return store.bytesRead;
    },
    close() {
      for (const source of opened) source.close();
      store.close();
    },
  };
}

function openStore(reference: ImageReference, request: RegistryRequest, options: SourceOptions): ImageStore {
  if (reference.kind === 'docker') return createRegistryClient(reference, request, options);
  if (options.policy.unrestricted) return createArchiveStore(reference, options);
  throw permanentFailure(
    'UnsupportedSource',
    'oci-archive: names a local file: only the command line reads those',
  );
}

/** The image, resolved when it is asked for. */
function createImage(
  store: ImageStore,
  request: RegistryRequest,
  options: SourceOptions,
): () => Promise<ResolvedImage> {
  let resolving: Promise<ResolvedImage> | undefined;

  async function resolve(): Promise<ResolvedImage> {
    const image = await resolveImage(store, request);
    const { invalidLabels } = image.config;
    if (invalidLabels > 0)
      options.notice?.(`${invalidLabels} KUBEVIRT_IO_ variables of the image are no valid labels: left out`);
    return image;
  }

  return () => {
    resolving ??= resolve();
    // a registry that failed is asked anew
    resolving.catch(() => (resolving = undefined));
    return resolving;
  };
}

interface DiskParts {
  readonly store: ImageStore;
  readonly image: () => Promise<ResolvedImage>;
  readonly request: RegistryRequest;
  readonly options: SourceOptions;
  readonly inOneAnswer: boolean;
}

interface DiskSource extends ImageSource {
  readonly containers: () => readonly Container[];
}

/** The disk as a source; closing it leaves the store open. */
function createDiskSource(parts: DiskParts): DiskSource {
  const { store } = parts;
  const disk = createDisk(parts);
  const inner = createStreamedSource({
    open: () => disk.read(),
    facts: async () => disk.facts(),
    bytesRead: () => store.bytesRead,
  });

  async function probe(): Promise<SourceFacts> {
    const facts = await inner.probe();
    refuseWrapped(facts.head, store.display);
    return { ...facts, containers: disk.containers() };
  }

  async function* stream(start: number): AsyncGenerator<Buffer> {
    await probe();
    yield* inner.stream(start);
  }

  return {
    verifiesItself: true,
    probe,
    stream,
    readInto: (start, target) => inner.readInto(start, target),
    containers: () => disk.containers(),
    get bytesRead() {
      return store.bytesRead;
    },
    close: () => inner.close(),
  };
}

interface Disk {
  read(): AsyncGenerator<Buffer>;
  facts(): Omit<SourceFacts, 'head' | 'ranges' | 'seekable'>;
  containers(): readonly Container[];
}

function createDisk({ store, image, request, options, inOneAnswer }: DiskParts): Disk {
  const { checksum } = request;
  let reader: (() => AsyncGenerator<Buffer>) | undefined;
  let found: FoundDisk | undefined;
  const notice: SourceNotice = (message) => options.notice?.(message);

  function accept(disk: FoundDisk): void {
    const validators = { etag: `"${disk.layer.digest}"`, length: disk.size };
    const difference = options.expected && differenceBetween(options.expected, validators);
    if (difference !== undefined) throw changed(store.display, difference);
    requireSameDigest(checksum, disk, store.display);
    found = disk;
  }

  return {
    async *read() {
      options.signal.throwIfAborted();
      reader ??= createDiskReader({
        store,
        image: await image(),
        checksum,
        inOneAnswer,
        found: accept,
        notice,
      });
      yield* reader();
    },
    facts() {
      if (!found) throw new Error('the disk has not been found yet');
      const validators = { etag: `"${found.layer.digest}"`, length: found.size };
      return { displayUrl: store.display, validators };
    },
    containers() {
      if (!found) return ['oci'];
      return ['oci', ...(found.compression ? [found.compression] : []), 'tar'];
    },
  };
}

/** A checksum of the digest's own algorithm is judged by the manifest, before anything is read. */
function requireSameDigest(checksum: string | undefined, { layer }: FoundDisk, display: string): void {
  if (checksum === undefined) return;
  const { algorithm, hex } = parseChecksum(checksum);
  if (!layer.digest.startsWith(`${algorithm}:`) || layer.digest === `${algorithm}:${hex}`) return;
  throw permanentFailure(
    'ChecksumMismatch',
    `checksum mismatch: expected ${algorithm}:${hex}, the layer of ${display} that holds the disk is ${layer.digest}`,
  );
}
