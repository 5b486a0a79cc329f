import type { TarEntry } from '../archive/tar-reader.js';
import { hostile } from '../refusals.js';

/** Where KubeVirt's container disks keep their disk. */
const DISK_DIRECTORY = 'disk';
const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';
/** Whiteouts of one image that are remembered. */
const MOST_HIDDEN = 10_000;

/** What an entry of a layer means for the disk. */
export type DiskEntry =
  /** Has nothing to do with it. */
  | { readonly kind: 'elsewhere' }
  /** Nothing of the directory in lower layers is seen. */
  | { readonly kind: 'hides-all' }
  /** This name is not seen in lower layers. */
  | { readonly kind: 'hides'; readonly name: string }
  /** Something directly in the directory that is no directory itself. */
  | { readonly kind: 'file'; readonly name: string };

/**
 * Reads the path of an entry as overlays do. `disk/<name>`, with or without `./` or `/` before it, is a disk; directories inside
 * and what is in them are not looked at. Whiteouts are those of the OCI image specification ("Layer changesets").
 *
 * @throws {@link FailureType} `ImageHostile` for a path with `..` (CDI's "content filepath is tainted")
 */
export function judgeEntry({ name, type }: Pick<TarEntry, 'name' | 'type'>, what: string): DiskEntry {
  const [first, second, ...deeper] = name.split('/', 4096).filter((part) => part !== '' && part !== '.');
  if (first === '..' || second === '..' || deeper.includes('..'))
    throw hostile(`${what}: content filepath is tainted: it has .. in it`);
  if (second === undefined) return judgeTop(first, type);
  if (first !== DISK_DIRECTORY || deeper.length > 0) return { kind: 'elsewhere' };
  if (second === OPAQUE) return { kind: 'hides-all' };
  if (second.startsWith(`${WHITEOUT}${WHITEOUT}`)) return { kind: 'elsewhere' };
  if (second.startsWith(WHITEOUT)) return { kind: 'hides', name: second.slice(WHITEOUT.length) };
  return type === 'directory' ? { kind: 'hides', name: second } : { kind: 'file', name: second };
}

/** A file, a link or a whiteout in the place of the directory takes all of it away. */
function judgeTop(name: string | undefined, type: TarEntry['type']): DiskEntry {
  const gone = name === OPAQUE || name === `${WHITEOUT}${DISK_DIRECTORY}`;
  const replaced = name === DISK_DIRECTORY && type !== 'directory';
  return { kind: gone || replaced ? 'hides-all' : 'elsewhere' };
}

/** What the layers read so far hide of those below them. */
export interface Hidden {
  readonly all: boolean;
  has(name: string): boolean;
  /** Adds what a layer hides, once all of it was read: a whiteout says nothing about its own layer. */
  add(marks: readonly DiskEntry[]): void;
}

/** Starts with nothing hidden. */
export function createHidden(): Hidden {
  const names = new Set<string>();
  let all = false;
  return {
    get all() {
      return all;
    },
    has: (name) => all || names.has(name),
    add(marks) {
      for (const mark of marks) {
        if (mark.kind === 'hides-all') all = true;
        else if (mark.kind !== 'elsewhere') names.add(mark.name);
      }
      if (names.size > MOST_HIDDEN) throw hostile(`image hides more than ${MOST_HIDDEN} files of its disk`);
    },
  };
}
