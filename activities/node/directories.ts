/**
 * Opens that no symbolic link can lead astray: every name is one component, looked up relative to a directory descriptor
 * (`/proc/self/fd/<fd>/<name>`) and never followed. What lies inside a volume is its tenant's and may be hostile.
 */
import { constants } from 'node:fs';
import { lstat, mkdir, open, readdir, readlink, rename, unlink, type FileHandle } from 'node:fs/promises';

/** User and group that disks belong to. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/** NAME_MAX of Linux. */
const NAME_BYTES = 255;

/**
 * Path of a child of an open directory, valid in this process while the handle is open.
 * @throws Error when the name is not one path component
 */
export function childPath(parent: FileHandle, name: string): string {
  const plain = name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name);
  if (!plain || Buffer.byteLength(name) > NAME_BYTES) {
    throw new Error(`'${name}' is not the name of one directory entry`);
  }
  return `/proc/self/fd/${parent.fd}/${name}`;
}

/** Opens a child directory; a symbolic link in its place is an error. */
export async function openDirectory(parent: FileHandle, name: string): Promise<FileHandle> {
  return await open(childPath(parent, name), DIRECTORY);
}

/** {@link openDirectory}, or `undefined` where nothing of that name exists. */
export async function findDirectory(parent: FileHandle, name: string): Promise<FileHandle | undefined> {
  return await openDirectory(parent, name).catch(undefinedIfAbsent);
}

/** Makes a child directory, or takes the one that is there, with this mode and owner whatever the umask. */
export async function ensureDirectory(
  parent: FileHandle,
  name: string,
  { mode, owner }: { mode: number; owner?: Owner | undefined },
): Promise<FileHandle> {
  const path = childPath(parent, name);
  await mkdir(path, { mode }).catch((error: unknown) => {
    if (codeOf(error) !== 'EEXIST') throw error;
  });
  const handle = await open(path, DIRECTORY);
  try {
    if (owner) await handle.chown(owner.uid, owner.gid);
    await handle.chmod(mode);
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Names in an open directory. */
export async function namesIn(directory: FileHandle): Promise<readonly string[]> {
  return await readdir(`/proc/self/fd/${directory.fd}`);
}

/** Whether something of that name, of whatever kind, exists. */
export async function exists(parent: FileHandle, name: string): Promise<boolean> {
  return (await lstat(childPath(parent, name)).catch(undefinedIfAbsent)) !== undefined;
}

/** Reads a small JSON file, or `undefined` where there is none. @throws Error naming what is no regular file, or no JSON */
export async function readJson(parent: FileHandle, name: string): Promise<unknown> {
  // Without O_NONBLOCK a FIFO in its place would hold us up for ever.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const handle = await open(childPath(parent, name), flags).catch(undefinedIfAbsent);
  if (!handle) return undefined;
  await using file = handle;
  if (!(await file.stat()).isFile()) throw new Error(`${name} is not a regular file`);
  const text = await file.readFile('utf8');
  try {
    return JSON.parse(text);
  } catch (error) {
    const path = await readlink(`/proc/self/fd/${file.fd}`).catch(() => name);
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`${path} is not readable: ${reason}`, { cause: error });
  }
}

/** Writes a small JSON file so that a crash leaves the old one or the new one, and a power cut too. */
export async function writeJson(parent: FileHandle, name: string, value: unknown): Promise<void> {
  const temporary = childPath(parent, `.${name}.new`);
  await unlink(temporary).catch(undefinedIfAbsent);
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  {
    await using file = await open(temporary, flags, 0o600);
    await file.writeFile(JSON.stringify(value));
    await file.sync();
  }
  await rename(temporary, childPath(parent, name));
  await parent.sync();
}

/** Removes a file or symbolic link; absent is success. */
export async function removeFile(parent: FileHandle, name: string): Promise<void> {
  await unlink(childPath(parent, name)).catch(undefinedIfAbsent);
}

/** Turns "does not exist" into `undefined` and throws everything else. */
export function undefinedIfAbsent(error: unknown): undefined {
  if (codeOf(error) !== 'ENOENT') throw error;
  return undefined;
}

/** `code` of a system error. */
export function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
