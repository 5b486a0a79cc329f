/** Removal of what tenants and archives have made: any name that Linux takes, any mode, any depth. */
import { open, opendir, rename, rmdir, unlink, type FileHandle } from 'node:fs/promises';
import { childPath, codeOf, undefinedIfAbsent } from './directories.js';
import { childOf, itself, openUp, PLACE, type Place } from './place.js';

/** Directories inside each other that are open at once, two descriptors each. */
const MAX_OPEN = 100;
/** Names that are read at once. */
const NAMES = 1000;

/** How a directory is emptied. */
export interface EmptyOptions {
  /** The file system that it is on, and everything in it that may be removed. */
  readonly device: bigint;
  readonly signal?: AbortSignal;
  /** A name in it that stays. */
  readonly keep?: string;
}

/** A directory that is being emptied. */
interface Emptying extends EmptyOptions {
  readonly root: Place;
}

/**
 * Removes a child and everything below it, without following a link and without leaving the file system that it is on.
 * Absent is success; a run that was killed half-way is finished by the next.
 * @throws {@link FailureType} `ResourceExists` for something mounted in it
 */
export async function removeTree(parent: FileHandle, name: string): Promise<void> {
  // refuses what is not one component
  const path = childPath(parent, name);
  if (await unlinked(path)) return;
  const { dev: device } = await parent.stat({ bigint: true });
  {
    await using directory = await open(path, PLACE).catch(undefinedIfAbsent);
    if (!directory) return;
    await openUp(directory, { name: Buffer.from(name).toString('latin1'), device });
    await emptyDirectory({ device, root: directory }, directory, 0);
  }
  await rmdir(path).catch(undefinedIfAbsent);
}

/**
 * Removes everything in a directory, without following a link and without leaving the file system, however deep and however
 * much. Directories whose owner may not write to them are opened up, the root too.
 * @throws {@link FailureType} `ResourceExists` for something mounted in it
 */
export async function emptyTree(root: Place, options: EmptyOptions): Promise<void> {
  await openUp(root);
  await emptyDirectory({ ...options, root }, root, 0);
}

/**
 * Not every file system lists all that is left while names are taken away: it is empty when a whole pass finds nothing, or when somebody
 * who does the same has removed it meanwhile.
 */
async function emptyDirectory(emptying: Emptying, place: Place, depth: number): Promise<void> {
  for (let found = true; found;) found = await passThrough(emptying, place, depth).catch(absentIsEmpty);
}

/** Removes what one listing tells of; whether that was anything. */
async function passThrough(emptying: Emptying, place: Place, depth: number): Promise<boolean> {
  let found = false;
  // names as bytes in latin1: not every name is UTF-8
  for await (const { name } of await opendir(itself(place), { encoding: 'latin1', bufferSize: NAMES })) {
    if (depth === 0 && name === emptying.keep) continue;
    emptying.signal?.throwIfAborted();
    found = true;
    await removeChild(emptying, { parent: place, name }, depth);
  }
  return found;
}

function absentIsEmpty(error: unknown): boolean {
  return undefinedIfAbsent(error) !== undefined;
}

async function removeChild(
  emptying: Emptying,
  { parent, name }: { readonly parent: Place; readonly name: string },
  depth: number,
): Promise<void> {
  const path = childOf(parent, name);
  if (await unlinked(path)) return;
  {
    await using directory = await open(path, PLACE).catch(undefinedIfAbsent);
    if (!directory) return;
    await openUp(directory, { name, device: emptying.device });
    // what lies too deep is looked at from the root, so that descriptors do not run out
    if (depth === MAX_OPEN)
      return await rename(path, childOf(emptying.root, crypto.randomUUID())).catch(undefinedIfAbsent);
    await emptyDirectory(emptying, directory, depth + 1);
  }
  await rmdir(path).catch(undefinedIfAbsent);
}

/** Removes anything but a directory; false for one. */
async function unlinked(path: Buffer | string): Promise<boolean> {
  try {
    await unlink(path);
    return true;
  } catch (error) {
    if (codeOf(error) === 'EISDIR') return false;
    return undefinedIfAbsent(error) === undefined;
  }
}
