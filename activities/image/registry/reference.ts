import { permanentFailure } from '../../failures.js';
import { parseDigest } from './content-digest.js';

/** An image in a registry, by tag or by digest. */
export interface DockerReference {
  readonly kind: 'docker';
  /** Host and port that are asked; `registry-1.docker.io` for Docker Hub. */
  readonly host: string;
  /** Host by which credentials are filed: `docker.io` for Docker Hub. */
  readonly domain: string;
  readonly repository: string;
  /** Tag or digest: what manifests are asked by. */
  readonly version: string;
  /** Present where the image is named by digest. */
  readonly digest?: string;
  /** In full, for messages: `docker://docker.io/library/fedora:latest`. */
  readonly display: string;
}

/** An image in a local file. */
export interface ArchiveReference {
  readonly kind: 'oci-archive';
  readonly path: string;
  /** Value of `org.opencontainers.image.ref.name`; absent: the archive's only image. */
  readonly name?: string;
  readonly display: string;
}

/** What a `source.registry.url` names. */
export type ImageReference = DockerReference | ArchiveReference;

const DOCKER_HUB = 'docker.io';
const DOCKER_HUB_HOST = 'registry-1.docker.io';
const OFFICIAL = 'library/';
const LONGEST_REPOSITORY = 255;
/** Host names, IPv4 addresses and bracketed IPv6 addresses with an optional port, as distribution's grammar has them. */
const DOMAIN =
  /^(?:\[[0-9a-f:.]{2,45}\]|[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*)(?::\d{1,5})?$/iu;
const PATH_COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/u;
const TAG = /^\w[\w.-]{0,127}$/u;
const SHAPE = /^([^@]+?)(?::([^:/@]*))?(?:@([^@]*))?$/u;

/** Whether an address names a local file, in any spelling that somebody could take for that. */
export function namesArchive(url: string): boolean {
  return /^\s*oci-archive:/iu.test(url);
}

/**
 * Reads `docker://host[:port]/repository[:tag][@digest]` by the rules of containers/image, Docker Hub's short names included, or
 * `oci-archive:path[:name]`. With tag and digest the digest decides.
 *
 * @throws {@link FailureType} `InvalidDataVolume`, without the text itself: it may hold anything
 */
export function parseReference(url: string): ImageReference {
  const text = url.trim();
  if (text.startsWith('docker://')) return parseDocker(text.slice('docker://'.length));
  if (text.startsWith('oci-archive:')) return parseArchive(text.slice('oci-archive:'.length));
  throw refused('it begins with neither docker:// nor oci-archive:');
}

function parseDocker(text: string): DockerReference {
  const [, name = '', tag, digest] = SHAPE.exec(text) ?? [];
  if (name === '') throw refused('it is not of the form docker://host/repository[:tag][@digest]');
  if (tag !== undefined && !TAG.test(tag)) throw refused('its tag is not valid');
  const byDigest = digest === undefined ? undefined : parseDigest(digest);
  if (digest !== undefined && !byDigest) throw refused('its digest is not sha256 or sha512 in hex');
  const { domain, repository } = parseName(name);
  const version = byDigest?.text ?? tag ?? 'latest';
  return {
    kind: 'docker',
    host: domain === DOCKER_HUB ? DOCKER_HUB_HOST : domain,
    domain,
    repository,
    version,
    ...(byDigest ? { digest: byDigest.text } : {}),
    display: `docker://${domain}/${repository}${byDigest ? '@' : ':'}${version}`,
  };
}

/** A first part without dot, colon or capital letter is no host: the name is Docker Hub's. */
function parseName(name: string): { domain: string; repository: string } {
  const slash = name.indexOf('/');
  const first = name.slice(0, Math.max(slash, 0));
  const isDomain = slash > 0 && (/[.:]/u.test(first) || first === 'localhost' || /[A-Z]/u.test(first));
  const domain = isDomain ? canonicalDomain(first) : DOCKER_HUB;
  const rest = isDomain ? name.slice(slash + 1) : name;
  const repository = domain === DOCKER_HUB && !rest.includes('/') ? `${OFFICIAL}${rest}` : rest;
  if (!DOMAIN.test(domain)) throw refused('its host is not valid');
  if (repository.length > LONGEST_REPOSITORY)
    throw refused(`its repository has ${repository.length} characters, more than ${LONGEST_REPOSITORY}`);
  if (!repository.split('/').every((part) => PATH_COMPONENT.test(part)))
    throw refused('its repository is not valid: lower case letters, digits and . _ - between them');
  return { domain, repository };
}

/** Docker Hub under its several names is one registry; hosts are compared in lower case. */
export function canonicalDomain(host: string): string {
  const lower = host.toLowerCase();
  return lower === 'index.docker.io' || lower === DOCKER_HUB_HOST ? DOCKER_HUB : lower;
}

function parseArchive(text: string): ArchiveReference {
  const colon = text.indexOf(':');
  const path = colon < 0 ? text : text.slice(0, colon);
  const name = colon < 0 ? undefined : text.slice(colon + 1);
  if (path === '' || path.includes('\0')) throw refused('its path is empty or not valid');
  if (name === '') throw refused('the name after its path is empty');
  return {
    kind: 'oci-archive',
    path,
    ...(name === undefined ? {} : { name }),
    display: `oci-archive:${text}`,
  };
}

function refused(why: string): Error {
  return permanentFailure('InvalidDataVolume', `registry URL cannot be used: ${why}`);
}
