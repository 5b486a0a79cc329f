/** Directories that are held open, and what lies in them by its bytes: what tenants and archives make has any name and mode. */
import { constants } from 'node:fs';
import { chmod, stat } from 'node:fs/promises';
import { permanentFailure } from '../failures.js';
import { shownName } from '../shown-name.js';

/** Flag of Linux, which Node does not name: a descriptor that opens nothing. */
export const O_PATH = 0o10000000;
/** Opens a directory just to go through it, whatever its mode. */
export const PLACE = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** What the owner of a directory needs to work in it. */
export const OWNER_MODE = 0o700;
const PERMISSIONS = 0o7777;

/** A directory that is held open. */
export interface Place {
  readonly fd: number;
}

/** Path of a child of an open directory; a name is one component, in latin1. */
export function childOf({ fd }: Place, name: string): Buffer {
  return Buffer.from(`/proc/self/fd/${fd}/${name}`, 'latin1');
}

/** Path of an open directory itself. */
export function itself({ fd }: Place): string {
  return `/proc/self/fd/${fd}`;
}

/** The name, in latin1, by which a directory was found in a volume, and the volume's file system. */
export interface Inside {
  readonly name: string;
  readonly device: bigint;
}

/**
 * Lets the owner of a directory work in it; what it was before. One that was found `inside` a volume must be on its file system.
 * @throws {@link FailureType} `ResourceExists` where it is on another
 */
export async function openUp(
  place: Place,
  inside?: Inside,
): Promise<{ readonly mode: number; readonly mtimeNs: bigint }> {
  const found = await stat(itself(place), { bigint: true });
  if (inside && found.dev !== inside.device)
    throw permanentFailure(
      'ResourceExists',
      `another file system is mounted on ${shown(inside.name)} in the volume: nothing in it is changed`,
    );
  const mode = Number(found.mode) & PERMISSIONS;
  if ((mode & OWNER_MODE) !== OWNER_MODE) await chmod(itself(place), mode | OWNER_MODE);
  return { mode, mtimeNs: found.mtimeNs };
}

/** A name in latin1 as people read it. */
export function shown(name: string): string {
  return shownName(Buffer.from(name, 'latin1').toString());
}
