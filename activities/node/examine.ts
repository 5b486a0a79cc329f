/** Looks at a pool as it is, without the side effects of using it: nothing is made, locked or changed. */
import { constants } from 'node:fs';
import { open, realpath, statfs } from 'node:fs/promises';
import { isAbsolute, normalize } from 'node:path';
import type { PoolRef } from '../types.js';
import type { PoolReport } from '../types/operators.js';
import { lookAt } from './answers.js';
import { undefinedIfAbsent } from './directories.js';
import { OVERLAY } from './overlay.js';
import { findPool } from './pool.js';
import { readPromises } from './promises.js';
import { verifyBackingDirectory } from './preparation/backing-directory.js';
import { sharedSystemPath } from './preparation/os-partition.js';
import { measurePool } from './room.js';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY;

/** Where it is looked at. */
export interface ExamineContext {
  readonly node: string;
  /** Bytes that volumes of others take from the pool. @default 0 */
  readonly foreignBytes?: number;
  /** Where the kernel shows SELinux. @default '/sys/fs/selinux' */
  readonly selinuxfs?: string | undefined;
}

/** What one pool is like on this node; what is wrong with it is told, not thrown, and so is that it does not answer. */
export async function examinePool(pool: PoolRef, context: ExamineContext): Promise<PoolReport> {
  const { path } = pool;
  const plain = normalize(path).replace(/\/+$/, '');
  if (!isAbsolute(path) || plain === '')
    return { path, state: 'unusable', message: `${path} is not an absolute path below /` };
  try {
    return await lookAt(plain, context.node, async () => await examine(plain, pool, context));
  } catch (error) {
    return { path, state: 'unusable', message: error instanceof Error ? error.message : String(error) };
  }
}

async function examine(
  plain: string,
  { path, overcommit }: PoolRef,
  { node, foreignBytes = 0, selinuxfs }: ExamineContext,
): Promise<PoolReport> {
  const found = await open(plain, DIRECTORY).catch(undefinedIfAbsent);
  if (!found) return { path, state: 'absent', message: `there is no directory ${plain} on node ${node}` };
  await using root = found;
  const { bavail, blocks, bsize, type } = await statfs(`/proc/self/fd/${root.fd}`);
  if (type === OVERLAY)
    return { path, state: 'unusable', message: `${plain} is not mounted into the worker on node ${node}` };
  const sharedWithOs = (await sharedSystemPath(await realpath(plain))) !== undefined;
  const {
    selinux: mode,
    labelled,
    message,
  } = await verifyBackingDirectory({ path: plain }, { node, selinuxfs });
  const free = { roomBytes: bavail * bsize, totalBytes: blocks * bsize, promisedBytes: 0, promises: 0 };
  return {
    path,
    state: 'usable',
    ...free,
    sharedWithOs,
    selinux: { mode, labelled, message },
    ...(await booksOf(plain, { node, foreignBytes, overcommit })),
  };
}

/** Figures of a pool that has been used. */
async function booksOf(
  path: string,
  { node, foreignBytes, overcommit }: { node: string; foreignBytes: number; overcommit: number | undefined },
): Promise<Partial<PoolReport>> {
  const found = await findPool(path, node);
  if (!found) return {};
  await using pool = found;
  const promises = await readPromises(pool);
  const { roomBytes, totalBytes } = await measurePool(pool, node, { foreignBytes, overcommit });
  return {
    roomBytes,
    totalBytes,
    promises: promises.length,
    promisedBytes: promises.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}
