/** Container images made by hand, part by part, so that each part can be wrong. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { pack } from 'tar-stream';

const OCI = 'application/vnd.oci.image';

/** One entry of a layer. */
export interface LayerFile {
  readonly name: string;
  /** @default empty */
  readonly content?: Buffer | string;
  readonly type?: 'file' | 'directory' | 'symlink' | 'link' | 'fifo';
  readonly linkname?: string;
}

/** The tar of a layer. */
export async function tarOf(files: readonly LayerFile[]): Promise<Buffer> {
  const archive = pack();
  const chunks: Buffer[] = [];
  const collected = (async () => {
    for await (const chunk of archive) chunks.push(chunk as Buffer);
  })();
  for (const { name, content = '', type = 'file', linkname } of files) {
    archive.entry({ name, type, ...(linkname === undefined ? {} : { linkname }) }, content);
  }
  archive.finalize();
  await collected;
  return Buffer.concat(chunks);
}

/** A layer as it is stored. */
export interface Layer {
  readonly blob: Buffer;
  readonly mediaType: string;
  /** Digest that the manifest names instead of the right one. */
  readonly digest?: string;
  /** Size that the manifest names instead of the right one. */
  readonly size?: number;
  readonly urls?: readonly string[];
  /** The uncompressed tar. */
  readonly tar: Buffer;
}

const SUFFIX = { none: '', gz: '+gzip', zst: '+zstd', xz: '+xz' } as const;

/** A layer of these files. */
export async function layerOf(
  files: readonly LayerFile[],
  compression: keyof typeof SUFFIX = 'gz',
): Promise<Layer> {
  const tar = await tarOf(files);
  return { tar, blob: compress(tar, compression), mediaType: `${OCI}.layer.v1.tar${SUFFIX[compression]}` };
}

function compress(bytes: Buffer, compression: keyof typeof SUFFIX): Buffer {
  if (compression === 'gz') return gzipSync(bytes);
  if (compression === 'zst') return zstdCompressSync(bytes);
  return compression === 'xz' ? execFileSync('xz', ['-c'], { input: bytes, maxBuffer: 2 ** 30 }) : bytes;
}

/** A blob by its digest. */
export const digestOf = (bytes: Buffer): string =>
  `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** A manifest and all that it names. */
export interface Image {
  readonly manifest: Buffer;
  readonly mediaType: string;
  readonly digest: string;
  readonly blobs: ReadonlyMap<string, Buffer>;
  /** Manifests that an index names. */
  readonly manifests: readonly Image[];
  readonly architecture: string;
}

/** What an image is besides its layers. */
export interface ImageOptions {
  /** @default 'amd64' */
  readonly architecture?: string;
  readonly env?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  /** Media types of Docker instead of OCI's. */
  readonly docker?: boolean;
  /** Changes the manifest before its digest is made. */
  readonly change?: (manifest: Record<string, unknown>) => void;
}

/** An image of layers, the lowest first. */
export function imageOf(layers: readonly Layer[], options: ImageOptions = {}): Image {
  const { architecture = 'amd64', env = [], labels = {}, docker = false, change } = options;
  const diffs = layers.map(({ tar }) => digestOf(tar));
  const config = Buffer.from(
    JSON.stringify({
      architecture,
      os: 'linux',
      config: { Env: ['PATH=/bin', ...env], Labels: labels },
      rootfs: { type: 'layers', diff_ids: diffs },
      history: layers.map(() => ({ created_by: 'a test' })),
    }),
  );
  const mediaType = docker
    ? 'application/vnd.docker.distribution.manifest.v2+json'
    : `${OCI}.manifest.v1+json`;
  const document: Record<string, unknown> = {
    schemaVersion: 2,
    mediaType,
    config: {
      mediaType: docker ? 'application/vnd.docker.container.image.v1+json' : `${OCI}.config.v1+json`,
      digest: digestOf(config),
      size: config.length,
    },
    layers: layers.map(({ blob, digest, size, urls, ...layer }) => ({
      mediaType: docker ? 'application/vnd.docker.image.rootfs.diff.tar.gzip' : layer.mediaType,
      digest: digest ?? digestOf(blob),
      size: size ?? blob.length,
      ...(urls ? { urls } : {}),
    })),
  };
  change?.(document);
  const manifest = Buffer.from(JSON.stringify(document));
  const blobs = new Map<string, Buffer>([[digestOf(config), config]]);
  for (const { blob, digest } of layers) blobs.set(digest ?? digestOf(blob), blob);
  return { manifest, mediaType, digest: digestOf(manifest), blobs, manifests: [], architecture };
}

/** A manifest that is one JSON document and nothing else. */
export function documentOf(content: unknown, mediaType: string): Image {
  const manifest = Buffer.from(typeof content === 'string' ? content : JSON.stringify(content));
  return {
    manifest,
    mediaType,
    digest: digestOf(manifest),
    blobs: new Map(),
    manifests: [],
    architecture: '',
  };
}

/** An index of images, each for its own architecture unless `platform` says something else. */
export function indexOf(
  images: readonly Image[],
  options: { readonly docker?: boolean; readonly platform?: (image: Image) => unknown } = {},
): Image {
  const { docker = false, platform = ({ architecture }: Image) => ({ os: 'linux', architecture }) } = options;
  const mediaType = docker
    ? 'application/vnd.docker.distribution.manifest.list.v2+json'
    : `${OCI}.index.v1+json`;
  const index = documentOf(
    {
      schemaVersion: 2,
      mediaType,
      manifests: images.map((image) => ({
        mediaType: image.mediaType,
        digest: image.digest,
        size: image.manifest.length,
        platform: platform(image),
      })),
    },
    mediaType,
  );
  return { ...index, manifests: images };
}

/** Writes an image as an OCI layout, for skopeo to read. */
export function writeLayout(directory: string, image: Image, name: string): void {
  mkdirSync(join(directory, 'blobs', 'sha256'), { recursive: true });
  const put = (digest: string, bytes: Buffer): void =>
    writeFileSync(join(directory, 'blobs', digest.replace(':', '/')), bytes);
  for (const part of [image, ...image.manifests]) {
    put(part.digest, part.manifest);
    for (const [digest, bytes] of part.blobs) put(digest, bytes);
  }
  const descriptor = {
    mediaType: image.mediaType,
    digest: image.digest,
    size: image.manifest.length,
    annotations: { 'org.opencontainers.image.ref.name': name },
  };
  writeFileSync(join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [descriptor] }));
  writeFileSync(join(directory, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
}
