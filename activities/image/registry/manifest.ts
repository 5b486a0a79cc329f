import { permanentFailure } from '../../failures.js';
import { invalid, unsupported } from '../refusals.js';
import { parseDigest } from './content-digest.js';
import { asArray, asRecord, asText, parseRecord, type JsonRecord } from './json.js';

/** Largest manifest or index that is read, in bytes: what registries accept at most. */
export const MANIFEST_LIMIT = 4 * 1024 * 1024;
/** Container engines stop at 127 layers. */
const MOST_LAYERS = 256;
const MOST_INDEX_ENTRIES = 1024;
const LONGEST_MEDIA_TYPE = 255;

const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json';
const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';

/** What is asked for; without the list some registries make a manifest of an old schema. */
export const MANIFEST_TYPES = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST] as const;

/** A content by its name (OCI image specification, "Content Descriptors"). */
export interface Descriptor {
  /** In lower case. */
  readonly mediaType: string;
  readonly digest: string;
  /** In bytes. */
  readonly size: number;
}

/**
 * Whether a content may be files for the root of a container. Media types are known to lie about compression, and some tools give none
 * or a general one; but an attestation (in-toto), a signature or a document says what it is, and container engines pass over it too.
 */
export function mayBeFiles({ mediaType }: Descriptor): boolean {
  return ['', 'application/octet-stream'].includes(mediaType) || /\btar\b/u.test(mediaType);
}

/** A manifest of an index, and the machine that it is for. */
export interface IndexEntry extends Descriptor {
  readonly os?: string;
  /** In Go's spelling: `amd64`. */
  readonly architecture?: string;
  /** `org.opencontainers.image.ref.name`, by which archives name their images. */
  readonly name?: string;
}

/** A parsed manifest: of one image, or of several for different machines. */
export type Manifest =
  | { readonly kind: 'index'; readonly entries: readonly IndexEntry[] }
  /** `layers` from the lowest to the topmost. */
  | { readonly kind: 'image'; readonly config: Descriptor; readonly layers: readonly Descriptor[] };

/**
 * Refuses the signed manifests of before 2016, whose digest is not that of their bytes.
 * @throws {@link FailureType} `UnsupportedFormat`
 */
export function requireNewSchema(mediaType: string | undefined, where: string): void {
  if (mediaType?.startsWith('application/vnd.docker.distribution.manifest.v1+'))
    throw unsupported(`${where} is a Docker manifest of schema 1: push the image again with a current tool`);
}

/**
 * Reads an OCI or Docker v2 manifest, index or list.
 * @throws {@link FailureType} `ImageInvalid`, `UnsupportedFormat` (schema 1, foreign or encrypted layers, other documents)
 */
export function parseManifest(bytes: Buffer, served: string | undefined, where: string): Manifest {
  const document = parseRecord(bytes);
  if (!document) throw invalid(`manifest of ${where} is no JSON object`);
  if (document['schemaVersion'] === 1 || document['fsLayers'] !== undefined)
    requireNewSchema('application/vnd.docker.distribution.manifest.v1+json', where);
  const isIndex = document['manifests'] !== undefined;
  const isImage = document['layers'] !== undefined || document['config'] !== undefined;
  // a document that is both would mean one image to us and another to who signed or scanned it
  if (isIndex && isImage) throw invalid(`manifest of ${where} is both an image and an index`);
  const type = (asText(document['mediaType']) ?? served)?.toLowerCase();
  const claimsIndex = type === OCI_INDEX || type === DOCKER_LIST;
  const claimsImage = type === OCI_MANIFEST || type === DOCKER_MANIFEST;
  if ((claimsIndex && isImage) || (claimsImage && isIndex))
    throw invalid(`manifest of ${where} is not what its media type says`);
  if (isIndex) return { kind: 'index', entries: entriesOf(document, where) };
  if (isImage) return imageOf(document, where);
  throw unsupported(`${where} is neither an image nor an index of images`);
}

function entriesOf(document: JsonRecord, where: string): IndexEntry[] {
  return listOf(document, 'manifests', MOST_INDEX_ENTRIES, where).map((value, index) => {
    const record = asRecord(value);
    const platform = asRecord(record?.['platform']);
    const [os, architecture] = [asText(platform?.['os']), asText(platform?.['architecture'])];
    const name = asText(asRecord(record?.['annotations'])?.['org.opencontainers.image.ref.name']);
    return {
      ...descriptorOf(record, `manifest ${index + 1} of index ${where}`),
      ...(os ? { os } : {}),
      ...(architecture ? { architecture } : {}),
      ...(name ? { name } : {}),
    };
  });
}

function imageOf(document: JsonRecord, where: string): Manifest {
  const config = descriptorOf(asRecord(document['config']), `configuration of ${where}`);
  const layers = listOf(document, 'layers', MOST_LAYERS, where).map((value, index) => {
    const record = asRecord(value);
    const layer = descriptorOf(record, `layer ${index + 1} of ${where}`);
    requireOwn(layer, record, `layer ${index + 1} of ${where}`);
    return layer;
  });
  return { kind: 'image', config, layers };
}

/** Foreign layers are fetched from addresses that whoever made the image chose. */
function requireOwn({ mediaType }: Descriptor, record: JsonRecord | undefined, what: string): void {
  const urls = asArray(record?.['urls']);
  if ((urls && urls.length > 0) || mediaType.includes('foreign') || mediaType.includes('nondistributable'))
    throw unsupported(`${what} is a foreign layer, which is not in the registry`);
  if (mediaType.endsWith('+encrypted')) throw unsupported(`${what} is encrypted`);
}

function listOf(document: JsonRecord, member: string, most: number, where: string): readonly unknown[] {
  const list = asArray(document[member]);
  if (!list) throw invalid(`manifest of ${where} has no list of ${member}`);
  if (list.length > most)
    throw permanentFailure('ImageHostile', `${where} has ${list.length} ${member}, more than ${most}`);
  return list;
}

function descriptorOf(record: JsonRecord | undefined, what: string): Descriptor {
  const digest = parseDigest(asText(record?.['digest']) ?? '');
  if (!digest) throw invalid(`${what} is not named by a sha256 or sha512 digest`);
  const size = record?.['size'];
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
    throw invalid(`${what} has no valid size`);
  const mediaType = (asText(record?.['mediaType']) ?? '').slice(0, LONGEST_MEDIA_TYPE).toLowerCase();
  return { mediaType, digest: digest.text, size };
}
