/** Looks at a pool as it is, without the side effects of using it: nothing is made, locked or changed. */
import { constants } from 'node:fs';
import { open, realpath, statfs } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import type { PoolRef } from '../types.js';
import type { PoolReport } from '../types/operators.js';
import { plainPath } from '../without-end.js';
import { endsWithin, lookAt } from './answers.js';
import { undefinedIfAbsent } from './directories.js';
import { OVERLAY } from './overlay.js';
import { findPool } from './pool.js';
import type { PoolContext } from './pool-memory.js';
import { readPromises } from './promises.js';
import { verifyBackingDirectory } from './preparation/backing-directory.js';
import { sharedSystemPath } from './preparation/os-partition.js';
import { measurePool } from './room.js';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY;

/** All of an examination, in ms: a workflow gives it 10 s. What the look leaves of it, at most 8 s, is for the books. */
const EXAMINE_MS = 9_000;

/** Figures of a pool that has been used. */
type Books = Partial<Pick<PoolReport, 'roomBytes' | 'totalBytes' | 'promises' | 'promisedBytes'>>;

/**
 * Books that are being read, by path. A thousand volumes on a cold disk take longer than anybody waits: that is slow, not dead, and
 * nobody is refused for it.
 */
const readings = new Map<string, Promise<Books>>();

/** Where it is looked at. */
export interface ExamineContext extends PoolContext {
  /** Bytes that volumes of others take from the pool. @default 0 */
  readonly foreignBytes?: number;
  /** Set by tests. */
  readonly withinMs?: number;
  /** Set by tests. */
  readonly readBooks?: typeof booksOf;
}

/**
 * What one pool is like on this node; what is wrong with it is told, not thrown, and so is that it does not answer. Without figures where
 * its books take too long to read.
 */
export async function examinePool(pool: PoolRef, context: ExamineContext): Promise<PoolReport> {
  const { path } = pool;
  const plain = plainPath(path);
  if (!isAbsolute(path) || plain === '')
    return { path, state: 'unusable', message: `${path} is not an absolute path below /` };
  const since = performance.now();
  try {
    const seen = await lookAt(plain, context.node, async () => await look(plain, pool, context));
    if (seen.state !== 'usable') return seen;
    const { withinMs = EXAMINE_MS } = context;
    const books = await figuresOf(plain, pool, context, since + withinMs - performance.now());
    if (books) return { ...seen, ...books };
    // room by the file system alone would be too much
    const { roomBytes: _, ...sized } = seen;
    return sized;
  } catch (error) {
    return { path, state: 'unusable', message: error instanceof Error ? error.message : String(error) };
  }
}

async function look(
  plain: string,
  { path }: PoolRef,
  { node, selinuxfs, memory }: ExamineContext,
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
  } = await verifyBackingDirectory({ path: plain }, { node, selinuxfs, memory });
  return {
    path,
    state: 'usable',
    roomBytes: bavail * bsize,
    totalBytes: blocks * bsize,
    sharedWithOs,
    selinux: { mode, labelled, message },
  };
}

/** What the books say; `undefined` where they are not read in time. */
async function figuresOf(
  plain: string,
  { overcommit }: PoolRef,
  { foreignBytes = 0, readBooks = booksOf, ...context }: ExamineContext,
  withinMs: number,
): Promise<Books | undefined> {
  const reading = readings.get(plain) ?? readBooks(plain, { ...context, overcommit });
  if (!readings.has(plain)) {
    readings.set(plain, reading);
    const end = (): boolean => readings.delete(plain);
    reading.then(end, end);
  }
  if (!(await endsWithin(reading, withinMs))) return undefined;
  const { roomBytes, ...others } = await reading;
  return {
    ...others,
    ...(roomBytes === undefined ? {} : { roomBytes: Math.max(0, roomBytes - foreignBytes) }),
  };
}

/** What the books say, for whoever asks: what others take from the pool is not taken off. */
async function booksOf(
  path: string,
  { overcommit, ...context }: PoolContext & { readonly overcommit: number | undefined },
): Promise<Books> {
  const found = await findPool(path, context);
  if (!found) return { promises: 0, promisedBytes: 0 };
  await using pool = found;
  const promises = await readPromises(pool);
  const { roomBytes, totalBytes } = await measurePool(pool, context, { foreignBytes: 0, overcommit });
  return {
    roomBytes,
    totalBytes,
    promises: promises.length,
    promisedBytes: promises.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}
