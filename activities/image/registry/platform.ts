import { arch } from 'node:os';
import { permanentFailure } from '../../failures.js';
import type { IndexEntry } from './manifest.js';

/** Node's names of architectures where Go has others. */
const GO_NAMES: Readonly<Record<string, string>> = {
  x64: 'amd64',
  ia32: '386',
  ppc64: 'ppc64le',
  mipsel: 'mipsle',
};
/** Architectures that a failure lists. */
const MOST_NAMED = 20;

/** This machine's architecture as Go, and so container images, spell it: `amd64`, `arm64`, `s390x`. */
export function ownArchitecture(): string {
  return GO_NAMES[arch()] ?? arch();
}

/**
 * The first manifest for Linux on `architecture`, whatever its variant; else the first that names no machine, whose
 * configuration then decides.
 *
 * @throws {@link FailureType} `SourceNotFound`, naming the architectures that are there
 */
export function selectManifest(
  entries: readonly IndexEntry[],
  architecture: string,
  where: string,
): IndexEntry {
  const selected =
    entries.find((entry) => entry.architecture === architecture && (entry.os ?? 'linux') === 'linux') ??
    entries.find((entry) => entry.architecture === undefined && entry.os === undefined);
  if (selected) return selected;
  const offered = [...new Set(entries.map(nameOf))].filter((name) => name !== undefined);
  const list = offered.slice(0, MOST_NAMED).join(', ') || 'none';
  throw permanentFailure(
    'SourceNotFound',
    `${where} has no image for linux/${architecture}, only for: ${list}`,
  );
}

/** Attestations and the like carry `unknown/unknown`; what is no plain word is not shown. */
function nameOf({ os = 'linux', architecture = '' }: IndexEntry): string | undefined {
  const name = `${os}/${architecture}`;
  return /^[a-z0-9]{1,20}\/[a-z0-9_]{1,20}$/u.test(name) && name !== 'unknown/unknown' ? name : undefined;
}
