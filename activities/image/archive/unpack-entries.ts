import { constants } from 'node:fs';
import { link, lstat, lutimes, open, readlink, symlink, type FileHandle } from 'node:fs/promises';
import { codeOf, undefinedIfAbsent } from '../../node/directories.js';
import { childOf, itself, type Place } from '../../node/place.js';
import { shownName } from '../../shown-name.js';
import { hostile, invalid } from '../refusals.js';
import type { TarEntry } from './tar-reader.js';
import type { Budget } from './unpack-budget.js';
import { LOST_AND_FOUND } from './unpack-empty.js';
import { assertInside, hardLinkPath, type Path } from './unpack-names.js';
import { clear, setTime, type Places } from './unpack-places.js';

const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
/** Files of this size and more are synced one by one: an error of the device is then known to be theirs. */
const SYNC_BYTES = 1024 * 1024;
/** A symbolic link as long as this does not fit into its inode (ext4). */
const LONG_LINK = 60;

/** Where an entry is made. */
export interface NewEntry {
  readonly parent: Place;
  readonly name: string;
  /** The whole path, that name included. */
  readonly path: Path;
}

/** What the making of entries has in common. */
export interface Making {
  /** Where hard links come from. */
  readonly sources: Places;
  readonly budget: Budget;
  readonly signal: AbortSignal;
}

/** Makes a file with the entry's data, mode and time; holes stay holes. */
export async function writeFile(entry: TarEntry, at: NewEntry, { budget, signal }: Making): Promise<void> {
  await using file = await create(at);
  budget.beginFile();
  let end = 0;
  for await (const { offset, data } of entry.dataExtents()) {
    signal.throwIfAborted();
    budget.addData(offset, data.length);
    await writeAll(file, data, offset);
    end = offset + data.length;
  }
  if (end < entry.size) await file.truncate(entry.size);
  // writing takes the set-user-ID bit away, so that the mode comes last
  await file.chmod(entry.mode);
  await setTime(itself(file), entry.mtime);
  if (entry.map.packedSize >= SYNC_BYTES) await file.sync();
}

/** Most names are new: what bears this one is only taken away where something does. */
async function create({ parent, name }: NewEntry): Promise<FileHandle> {
  const path = childOf(parent, name);
  const file = await open(path, NEW_FILE, 0o600).catch(undefinedIfTaken);
  if (file) return file;
  await clear(parent, name);
  return await open(path, NEW_FILE, 0o600);
}

function undefinedIfTaken(error: unknown): undefined {
  if (codeOf(error) !== 'EEXIST') throw error;
}

async function writeAll(file: FileHandle, data: Buffer, offset: number): Promise<void> {
  for (let done = 0; done < data.length;) {
    const { bytesWritten } = await file.write(data, done, data.length - done, offset + done);
    done += bytesWritten;
  }
}

/** Makes a symbolic link that stays inside the volume. */
export async function makeSymlink(entry: TarEntry, at: NewEntry, { budget }: Making): Promise<void> {
  const what = `symbolic link ${shownName(entry.name)} to ${shownName(entry.linkName)}`;
  assertInside({ what, path: at.path, target: entry.linkBytes });
  if (entry.linkBytes.length >= LONG_LINK) budget.addBlock();
  await clear(at.parent, at.name);
  await symlink(entry.linkBytes, childOf(at.parent, at.name));
  await setTime(childOf(at.parent, at.name), entry.mtime, lutimes);
}

/** Makes a file or symbolic link that this archive has made before known by one more name. */
export async function linkFile(entry: TarEntry, at: NewEntry, { sources }: Making): Promise<void> {
  const path = hardLinkPath(entry);
  const shown = `hard link ${shownName(entry.name)} to ${shownName(entry.linkName)}`;
  const name = path.at(-1);
  if (name === undefined || path[0] === LOST_AND_FOUND)
    throw hostile(`${shown} is not to a file of the archive`);
  const source = childOf(await sources.enter(path.slice(0, -1)), name);
  const found = await lstat(source, { bigint: true }).catch(undefinedIfAbsent);
  if (!found) throw invalid(`${shown}: the archive has no such file before it`);
  // the same symbolic link leads elsewhere from another directory
  if (found.isSymbolicLink())
    assertInside({ what: shown, path: at.path, target: await readlink(source, { encoding: 'buffer' }) });
  else if (!found.isFile()) throw hostile(`${shown} is not to a file`);
  const taken = await lstat(childOf(at.parent, at.name), { bigint: true }).catch(undefinedIfAbsent);
  // a link to itself: nothing to do, and nothing to lose
  if (taken?.ino !== found.ino) {
    await clear(at.parent, at.name);
    await link(source, childOf(at.parent, at.name));
  }
  await sources.leave();
}
