import { createHash } from 'node:crypto';
import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { permanentFailure } from '../failures.js';
import type { ReleasedVolume, ReservedDirectory, UnpublishedItem } from '../types.js';
import { plainPath } from '../without-end.js';
import { childPath, codeOf, exists, undefinedIfAbsent } from './directories.js';
import { withPoolLock } from './lock.js';
import { findStateOf, forgetRecord, isOfNode, readMarker, removeState } from './marker.js';
import { openUp, PLACE } from './place.js';
import { findPool, openPool, volumeName, type Pool } from './pool.js';
import type { PoolContext } from './pool-memory.js';
import { promisesOf, removePromises } from './promises.js';
import { removeTree } from './remove-tree.js';

/**
 * Removes a directory whose state `find` tells under the pool's lock; nothing where it tells of none. Record, then data, then promise,
 * then marker, so that no byte is promised again while it is still in use, and a run that is killed half-way is finished by the next. The
 * data goes without the lock, since an archive may have millions of files; who reserved the directory anew meanwhile keeps it.
 */
export async function removeUnpublished(
  pool: Pool,
  directory: string,
  find: () => Promise<string | undefined>,
): Promise<void> {
  const aside = nameAside(directory);
  await removeTree(pool.books, aside);
  const marker = await withPoolLock(pool, async () => {
    const state = await find();
    if (state === undefined) return undefined;
    // first: who reserves the directory anew before its state goes must not find that it is complete
    await forgetRecord(pool, state);
    await setAside(pool, volumeName(directory), aside);
    return await readMarker(pool, state);
  });
  if (!marker) return;
  await removeTree(pool.books, aside);
  await withPoolLock(pool, async () => {
    const state = await findStateOf(pool, { directory, uid: marker.dataVolume.uid });
    if (state === undefined || !isDeepStrictEqual(await readMarker(pool, state), marker)) return;
    if (await exists(pool.root, volumeName(directory))) return;
    await removePromises(pool, directory);
    await removeState(pool, state);
  });
}

/**
 * Undoes a reservation. Absent is success.
 * @throws {@link FailureType} `ResourceExists` when the directory is published: then it is a user's disk
 */
export async function removeDirectory(
  { pool: path, directory, dataVolume }: ReservedDirectory,
  context: PoolContext,
): Promise<void> {
  const found = await findPool(path, context);
  if (!found) return;
  await using pool = found;
  await removeUnpublished(pool, directory, async () => {
    const state = await findStateOf(pool, { directory, uid: dataVolume.uid });
    if (state !== undefined) return state;
    if (await exists(pool.root, volumeName(directory))) {
      throw permanentFailure(
        'ResourceExists',
        `directory ${pool.path}/${directory} on node ${context.node} is published: it is not removed`,
      );
    }
    await removePromises(pool, directory);
    // Without a marker only the rest of a removal that was killed at its last step can be here.
    if (!(await readMarker(pool, dataVolume.uid))) await removeState(pool, dataVolume.uid);
    return undefined;
  });
}

/** Removes what the sweeper judged, if its marker still says the same. */
export async function removeUnpublishedDirectory(item: UnpublishedItem, context: PoolContext): Promise<void> {
  const found = item.pool === undefined ? undefined : await findPool(item.pool, context);
  if (!found) return;
  await using pool = found;
  await removeUnpublished(pool, item.name, async () => {
    const state = await findStateOf(pool, { directory: item.name, uid: item.dataVolume.uid });
    const marker = state === undefined ? undefined : await readMarker(pool, state);
    if (state === undefined || marker?.workflowId !== item.workflowId) return undefined;
    if (!isOfNode(marker, context.node)) return undefined;
    // A new attempt of the same workflow has reserved it anew since it was judged.
    return marker.createdAt === item.createdAt ? state : undefined;
  });
}

/**
 * Removes the data, the promise and any record of a released volume. The directory is set aside first, so that nobody waits for
 * the pool's lock while millions of files go; what they occupy is room only when they have gone.
 * @throws {@link FailureType} `IncompatiblePVC` when its path is not directly under the pool; retried: `NodeUnavailable` while
 * the pool or its books are missing, since data on a file system that is not mounted is not gone
 */
export async function removeVolumeData(volume: ReleasedVolume, context: PoolContext): Promise<void> {
  const directory = directoryOf(volume, context.node);
  await using pool = await openPool(volume.pool.path, context);
  const aside = nameAside(directory);
  await removeTree(pool.books, aside);
  await withPoolLock(pool, async () => {
    await setAside(pool, directory, aside);
    await forget(pool, directory);
  });
  await removeTree(pool.books, aside);
}

/** Hidden, so that it is no DataVolume's; from the directory's name, so that a removal which was killed is finished by the next. */
export function nameAside(directory: string): string {
  return `.removing-${createHash('sha256').update(directory).digest('hex').slice(0, 32)}`;
}

/**
 * Moves a directory out of everybody's way. What a killed removal set aside under this name must have gone before.
 * @throws {@link FailureType} `ResourceExists` for something mounted on it
 */
async function setAside(pool: Pool, directory: string, aside: string): Promise<void> {
  const [from, to] = [childPath(pool.root, directory), childPath(pool.books, aside)];
  await rename(from, to)
    .catch(async (error: unknown) => {
      // only who may write to a directory may move it, and tenants close theirs
      if (!['EACCES', 'EBUSY'].includes(String(codeOf(error)))) throw error;
      const { dev: device } = await pool.root.stat({ bigint: true });
      {
        await using place = await open(from, PLACE);
        await openUp(place, { name: Buffer.from(directory).toString('latin1'), device });
      }
      await rename(from, to);
    })
    .catch(undefinedIfAbsent);
  await pool.root.sync();
  await pool.books.sync();
}

/** Removes promise and record of a directory whose data is set aside. */
async function forget(pool: Pool, directory: string): Promise<void> {
  const owners = await promisesOf(pool, directory);
  const marked: string[] = [];
  for (const { dataVolume } of owners) {
    const { uid } = dataVolume;
    const marker = await readMarker(pool, uid);
    // Without a marker only the promise leads here again; with one the marker does, and goes last.
    if (!marker) await removeState(pool, uid);
    else if (marker.directory === directory) marked.push(uid);
  }
  await removePromises(pool, directory);
  for (const uid of [...marked, directory]) await removeState(pool, uid);
}

function directoryOf({ name, path, pool, node: on }: ReleasedVolume, node: string): string {
  const plain = plainPath(path);
  const directory = plain.slice(plain.lastIndexOf('/') + 1);
  const under = dirname(plain) === plainPath(pool.path);
  const reason = !under
    ? `path ${path} is not directly under pool ${pool.path}`
    : directory === '' || directory.startsWith('.')
      ? `path ${path} is not a volume's directory`
      : on === node
        ? undefined
        : `it is on node ${on}, not on ${node}`;
  if (reason) throw permanentFailure('IncompatiblePVC', `volume ${name} is not reclaimed: ${reason}`);
  return directory;
}
