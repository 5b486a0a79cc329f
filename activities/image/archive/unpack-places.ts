import { chmod, lstat, mkdir, open, rmdir, unlink, utimes, type FileHandle } from 'node:fs/promises';
import { codeOf, undefinedIfAbsent } from '../../node/directories.js';
import { childOf, itself, openUp, OWNER_MODE, PLACE, shown, type Place } from '../../node/place.js';
import { hostile, invalid } from '../refusals.js';
import type { Path } from './unpack-names.js';

/** The earliest time of a Date. In ms. */
const EARLIEST_MS = -8.64e15;

/** What a directory looks like when the work in it is done. */
export interface Attributes {
  readonly mode: number;
  /** In seconds since the epoch. */
  readonly mtime: number;
}

/** The place where work goes on: a chain of open directories from the target down. */
export interface Places {
  /** Goes to a directory and makes those that are missing on the way. */
  enter(path: Path): Promise<Place>;
  /** Goes to a directory that gets these attributes when it is left. */
  describe(path: Path, attributes: Attributes): Promise<void>;
  /** Goes back to the target; what was gone through gets its mode and time back. */
  leave(): Promise<void>;
  /** Lets go of everything as it is. */
  abandon(): Promise<void>;
}

interface Visited extends Place {
  readonly name: string;
  readonly handle: FileHandle;
  /** Mode while it is gone through. */
  readonly open: number;
  attributes: Attributes;
}

/** How far a chain may go. */
export interface PlacesOptions {
  /** The target's device. */
  readonly device: bigint;
  /** Makes directories that are missing; else they are refused. */
  readonly create: boolean;
  /** Told of each directory that is about to be gone into; what it throws ends the work. */
  readonly onVisit: () => void;
  /** Told of each directory that was made. */
  readonly onMade?: () => void;
}

/**
 * Places below `target`, never through a symbolic link and never on another file system. A directory that its owner may not
 * write to is opened up while it is gone through.
 * @throws {@link FailureType} `ImageHostile` for a link in the way, `ImageInvalid` for a file, `ResourceExists` for a mount point
 */
export function createPlaces(target: Place, options: PlacesOptions): Places {
  const chain: Visited[] = [];

  async function enter(path: Path): Promise<Place> {
    let common = 0;
    while (common < chain.length && chain[common]?.name === path[common]) common += 1;
    await leaveTo(common);
    for (const name of path.slice(common)) {
      options.onVisit();
      const parent = chain.at(-1) ?? target;
      if (options.create) await make(parent, name, options);
      chain.push(await visit(parent, name, options));
    }
    return chain.at(-1) ?? target;
  }

  async function leaveTo(depth: number): Promise<void> {
    while (chain.length > depth) {
      const last = chain.pop();
      if (last) await restore(last);
    }
  }

  return {
    enter,
    async describe(path, attributes) {
      await enter(path);
      const last = chain.at(-1);
      if (last) last.attributes = attributes;
    },
    leave: () => leaveTo(0),
    abandon: async () => void (await Promise.all(chain.splice(0).map(({ handle }) => handle.close()))),
  };
}

/** What the archive does not describe looks as the umask wants it (GNU tar). */
async function make(parent: Place, name: string, { onMade }: PlacesOptions): Promise<void> {
  try {
    await mkdir(childOf(parent, name));
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return;
    throw error;
  }
  onMade?.();
}

async function visit(parent: Place, name: string, { device }: PlacesOptions): Promise<Visited> {
  const handle = await openPlace(childOf(parent, name), name);
  try {
    const { mode, mtimeNs } = await openUp(handle, { name, device });
    const attributes = { mode, mtime: Number(mtimeNs / 1000n) / 1e6 };
    return { name, fd: handle.fd, handle, open: mode | OWNER_MODE, attributes };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function openPlace(path: Buffer, name: string): Promise<FileHandle> {
  try {
    return await open(path, PLACE);
  } catch (error) {
    if (codeOf(error) === 'ENOENT')
      throw invalid(`a hard link leads through ${shown(name)}, which the archive does not have before it`);
    if (codeOf(error) !== 'ENOTDIR') throw error;
    const link = (await lstat(path)).isSymbolicLink();
    if (link) throw hostile(`an entry of the archive lies behind the symbolic link ${shown(name)}`, error);
    throw invalid(`an entry of the archive lies below ${shown(name)}, which is a file`, error);
  }
}

async function restore({ handle, open: mode, attributes }: Visited): Promise<void> {
  try {
    if (attributes.mode !== mode) await chmod(itself(handle), attributes.mode);
    await setTime(itself(handle), attributes.mtime);
  } finally {
    await handle.close();
  }
}

/**
 * Sets a modification time, to the microsecond: a number has no more for a time of today, and half of one more keeps it from being
 * rounded to the one before. Node takes a time before 1970 for now, unless it is a Date, which has milliseconds.
 */
export async function setTime(path: Buffer | string, seconds: number, set = utimes): Promise<void> {
  const time =
    seconds < 0 ? new Date(Math.max(EARLIEST_MS, seconds * 1000)) : (Math.floor(seconds * 1e6) + 0.5) / 1e6;
  await set(path, new Date(), time);
}

/** Takes away what bears a name, so that an entry can: a file, a link or an empty directory. @throws {@link FailureType} `ImageInvalid` */
export async function clear(parent: Place, name: string): Promise<void> {
  const path = childOf(parent, name);
  try {
    await unlink(path).catch(undefinedIfAbsent);
  } catch (error) {
    if (codeOf(error) !== 'EISDIR') throw error;
    await rmdir(path).catch((failed: unknown) => {
      if (codeOf(failed) !== 'ENOTEMPTY' && codeOf(failed) !== 'EEXIST') throw failed;
      throw invalid(`${shown(name)} comes again, and is no directory: what is in the first would be lost`);
    });
  }
}

/** A directory of this name: the one that is there, or a new one in the place of what is no directory. */
export async function clearForDirectory(parent: Place, name: string): Promise<void> {
  const found = await lstat(childOf(parent, name)).catch(undefinedIfAbsent);
  if (found && !found.isDirectory()) await unlink(childOf(parent, name));
}
