/**
 * What lies in an archive's volume, looked at from outside: no link is followed, nothing that is mounted is entered, and no file is
 * opened before it is known what it is. All of it is its tenant's.
 */
import { lstat, open, opendir, readlink, type FileHandle } from 'node:fs/promises';
import { constants, type BigIntStats } from 'node:fs';
import { permanentFailure } from '../../failures.js';
import { undefinedIfAbsent } from '../../node/directories.js';
import { childOf, itself, PLACE, shown, type Place } from '../../node/place.js';
import type { SourceContent } from '../../types/clone.js';
import { LOST_AND_FOUND } from '../archive/unpack-empty.js';

/** Directories inside each other that are entered; each is held open. */
const MAX_DEPTH = 200;
/** Names that are read at once. */
const NAMES = 1000;
/** What a file system gives out at least: a directory, a long link. */
const FS_BLOCK = 4096;
const O_NOFOLLOW_PATH = 0o10000000 | constants.O_NOFOLLOW;

/** Something in a volume. */
export interface TreeEntry {
  /** Path below the volume, in latin1. */
  readonly path: string;
  readonly kind: 'directory' | 'file' | 'symlink';
  readonly found: BigIntStats;
  /** Target of a symbolic link, in bytes. */
  readonly target?: Buffer;
  /** Path of the same file that came before. */
  readonly sameAs?: string;
  /** Opens the file; the very one that was looked at. */
  open(): Promise<FileHandle>;
}

/** What a walk left out: FIFOs, sockets and devices. */
export interface LeftOut {
  count: number;
}

/**
 * Everything in a volume, directories before what they hold.
 * @throws {@link FailureType} `ImageHostile` for a file that has names outside of the volume, and for directories without end
 */
export async function* walkTree(root: Place, left: LeftOut): AsyncGenerator<TreeEntry> {
  const links = new Map<bigint, { readonly path: string; readonly names: bigint; seen: bigint }>();
  const { dev } = await lstat(`${itself(root)}/.`, { bigint: true });
  yield* walk(root, '', 0);
  for (const { path, names, seen } of links.values())
    if (names > seen)
      throw permanentFailure(
        'ImageHostile',
        `${shown(path)} has ${names} links, ${seen} of them in the volume`,
      );

  async function* walk(place: Place, above: string, depth: number): AsyncGenerator<TreeEntry> {
    if (depth > MAX_DEPTH)
      throw permanentFailure('ImageHostile', `${shown(above)} is more than ${MAX_DEPTH} directories deep`);
    for await (const { name } of await opendir(itself(place), { encoding: 'latin1', bufferSize: NAMES })) {
      if (depth === 0 && name === LOST_AND_FOUND) continue;
      const path = `${above}${name}`;
      await using child = await open(childOf(place, name), O_NOFOLLOW_PATH).catch(undefinedIfAbsent);
      if (!child) continue;
      const found = await child.stat({ bigint: true });
      // another file system is somebody else's
      if (found.dev !== dev) left.count += 1;
      else if (found.isDirectory()) {
        yield entry(child, { path, kind: 'directory', found });
        await using inside = await open(childOf(place, name), PLACE);
        if ((await inside.stat({ bigint: true })).ino === found.ino)
          yield* walk(inside, `${path}/`, depth + 1);
      } else if (found.isSymbolicLink()) {
        const target = await readlink(childOf(place, name), { encoding: 'buffer' });
        yield { ...entry(child, { path, kind: 'symlink', found }), target };
      } else if (found.isFile()) yield fileEntry(child, path, found);
      else left.count += 1;
    }
  }

  function fileEntry(child: FileHandle, path: string, found: BigIntStats): TreeEntry {
    const file = entry(child, { path, kind: 'file', found });
    if (found.nlink === 1n) return file;
    const known = links.get(found.ino);
    if (known) known.seen += 1n;
    else links.set(found.ino, { path, names: found.nlink, seen: 1n });
    return known ? { ...file, sameAs: known.path } : file;
  }
}

function entry(child: FileHandle, facts: Pick<TreeEntry, 'path' | 'kind' | 'found'>): TreeEntry {
  return { ...facts, open: async () => await open(itself(child), constants.O_RDONLY) };
}

/** Bytes that the files of a volume hold, and what they and the directories occupy. @throws as {@link walkTree} */
export async function measureTree(root: Place, signal?: AbortSignal): Promise<SourceContent> {
  const left = { count: 0 };
  let bytes = 0;
  let allocatedBytes = 0;
  for await (const { kind, found, sameAs } of walkTree(root, left)) {
    signal?.throwIfAborted();
    if (kind !== 'file') allocatedBytes += FS_BLOCK;
    else if (sameAs === undefined) {
      bytes += Number(found.size);
      allocatedBytes += Number(found.blocks) * 512;
    }
  }
  return { bytes, allocatedBytes, ...(left.count > 0 ? { leftOut: left.count } : {}) };
}
