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

/** The machine that an image is for. */
export interface WantedMachine {
  /** As Go spells it. */
  readonly architecture: string;
  /** Whoever asks has named it: an image for another machine will not do. */
  readonly named: boolean;
}

/**
 * The first manifest for Linux on the wanted architecture, whatever its variant; else the first that names no machine, whose
 * configuration then decides; else, where nobody has named an architecture and only one is there, that one.
 *
 * @throws {@link FailureType} `SourceNotFound`, naming the architectures that are there
 */
export function selectManifest(
  entries: readonly IndexEntry[],
  { architecture, named }: WantedMachine,
  where: string,
): IndexEntry {
  const selected =
    entries.find((entry) => entry.architecture === architecture && isLinux(entry)) ??
    entries.find((entry) => entry.architecture === undefined && entry.os === undefined) ??
    (named ? undefined : onlyOne(entries));
  if (selected) return selected;
  const offered = [...new Set(entries.map(nameOf))].filter((name) => name !== undefined);
  const list = offered.slice(0, MOST_NAMED).join(', ') || 'none';
  const advice =
    named || offered.length === 0 ? '' : '; name one of them in source.registry.platform.architecture';
  throw permanentFailure(
    'SourceNotFound',
    `${where} has no image for linux/${architecture}, only for: ${list}${advice}`,
  );
}

/** The first image for Linux, where all are for the same architecture. */
function onlyOne(entries: readonly IndexEntry[]): IndexEntry | undefined {
  const [first, ...more] = entries.filter((entry) => isLinux(entry) && nameOf(entry) !== undefined);
  return more.every(({ architecture }) => architecture === first?.architecture) ? first : undefined;
}

function isLinux({ os = 'linux' }: IndexEntry): boolean {
  return os === 'linux';
}

/** Attestations and the like carry `unknown/unknown`; what is no plain word is not shown. */
function nameOf({ os = 'linux', architecture = '' }: IndexEntry): string | undefined {
  const name = `${os}/${architecture}`;
  return isPlain(os) && isPlain(architecture) && name !== 'unknown/unknown' ? name : undefined;
}

/** Whether an architecture, as an image names it, can be shown and handed on. */
export function isPlain(word: string | undefined): word is string {
  return word !== undefined && /^[a-z0-9_]{1,20}$/u.test(word);
}
