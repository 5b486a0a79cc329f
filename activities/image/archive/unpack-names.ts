import { hostile, invalid, unsupported } from '../refusals.js';
import { shownName } from '../../shown-name.js';
import type { TarEntry } from './tar-reader.js';

/** NAME_MAX and PATH_MAX of Linux. */
const NAME_BYTES = 255;
const PATH_BYTES = 4096;
/** Directories inside each other; each is held open while work goes on in it. */
const MAX_DEPTH = 256;

/** A path inside the target: names of directories and a last name, as bytes in latin1, so that none is changed. Empty: the target. */
export type Path = readonly string[];

/** Path of an entry. @throws {@link FailureType} `ImageHostile` for `..`, `UnsupportedFormat` for one that no file system takes */
export function pathOf(entry: TarEntry): Path {
  return parsePath(entry.nameBytes, `tar entry ${shownName(entry.name)}`);
}

/** Path of the entry that a hard link is one more name of; from the target's root, like an entry's own. */
export function hardLinkPath(entry: TarEntry): Path {
  return parsePath(entry.linkBytes, `hard link ${shownName(entry.name)} to ${shownName(entry.linkName)}`);
}

/** A leading slash is taken away, as GNU tar does; `.` and doubled slashes mean nothing. */
function parsePath(bytes: Buffer, what: string): Path {
  if (bytes.includes(0)) throw invalid(`${what} holds a NUL`);
  const names = bytes.toString('latin1').split('/');
  const path = names.filter((name) => name !== '' && name !== '.');
  if (path.includes('..')) throw hostile(`${what} leads out of the volume by '..'`);
  if (bytes.length >= PATH_BYTES)
    throw unsupported(`${what} has a path of ${bytes.length} bytes, ${PATH_BYTES - 1} is the limit`);
  const longest = Math.max(0, ...path.map((name) => name.length));
  if (longest > NAME_BYTES)
    throw unsupported(`${what} has a name of ${longest} bytes, ${NAME_BYTES} is the limit`);
  if (path.length > MAX_DEPTH)
    throw unsupported(`${what} is ${path.length} directories deep, ${MAX_DEPTH} is the limit`);
  return path;
}

/** A symbolic link that is about to be made. */
export interface NewSymlink {
  /** For messages: which link leads where. */
  readonly what: string;
  /** Where it lies. */
  readonly path: Path;
  /** Where it leads. */
  readonly target: Buffer;
}

/**
 * Refuses a symbolic link, unless whoever follows it stays inside the volume. `..` may only come first, and not more often than
 * the link has directories around it: after a name, which may be a link itself, nobody can tell where `..` leads.
 * @throws {@link FailureType} `ImageHostile`
 */
export function assertInside({ what, path, target }: NewSymlink): void {
  if (target.includes(0) || target.length >= PATH_BYTES) throw invalid(`${what} leads nowhere`);
  const names = target.toString('latin1').split('/');
  if (names[0] === '') throw hostile(`${what} is absolute and leads out of the volume`);
  const steps = names.filter((name) => name !== '' && name !== '.');
  const down = steps.findIndex((name) => name !== '..');
  const ups = down === -1 ? steps.length : down;
  if (ups > path.length - 1 || steps.includes('..', ups))
    throw hostile(`${what} leads out of the volume by '..'`);
}
