import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { permanentFailure } from '../failures.js';
import { runTool } from '../image/tools.js';
import type { LocalVolumePlan, LoopVolume } from '../types/local-volumes.js';
import { poolFailure } from './denied.js';
import { childPath, ensureDirectory, exists } from './directories.js';
import { withPoolLock } from './lock.js';
import { linkPath, makerNow, readLoopRecord, writeLoopRecord, type LoopRecord } from './loop-record.js';
import { attachIn, findBackingFile, loopDirectory, openBackingFile } from './loop-volumes.js';
import { DISK, preparePool, type Pool } from './pool.js';
import { rememberPool } from './pool-memory.js';
import { readPromise, writePromise } from './promises.js';
import { measurePool } from './room.js';
import type { VolumeContext } from './volume-state.js';

/**
 * See {@link NodeActivities.createLoopVolume}. Order at birth: record, promise, directory, file, device, link; a run that dies
 * between leaves the record, by which the next attempt goes on or the removal finds the rest.
 */
export async function createLoopVolume(plan: LocalVolumePlan, context: VolumeContext): Promise<LoopVolume> {
  const { node } = context;
  if (process.getuid?.() !== 0)
    throw permanentFailure(
      'NotAuthorized',
      `the node worker on ${node} is not root: only root makes devices`,
    );
  await using pool = await preparePool(plan.pool, context);
  const made = withPoolLock(pool, async () => {
    // under a PersistentVolume that is there a missing file is not made anew: a disk was in it
    if (plan.exists) await (await openBackingFile(pool, plan.name, context)).close();
    const record = await recordFor(pool, plan, context);
    const refused = await promise(pool, plan, context);
    if (refused) return { path: linkPath(context, plan.name), bytes: 0, directIo: false, refused };
    await rememberPool(pool, context);
    await writeLoopRecord(context, record);
    if (!plan.exists) await makeFile(pool, plan);
    const device = await attachIn(pool, record, context);
    await writeLoopRecord(context, { ...record, complete: true });
    return device;
  });
  return await made.catch(async (error: unknown) => {
    throw await poolFailure(error, { doing: `make volume ${plan.name}`, directory: pool.path, node });
  });
}

/**
 * The record of an earlier attempt, or a new one. A run that goes on from another one's volume is added to its makers.
 * @throws {@link FailureType} `ResourceExists` where the file may hold a disk: its PersistentVolume was removed, or there is another
 */
async function recordFor(pool: Pool, plan: LocalVolumePlan, context: VolumeContext): Promise<LoopRecord> {
  const { name, bytes } = plan;
  const maker = makerNow();
  const found = await readLoopRecord(context, name);
  if (!found) {
    if (!plan.exists && (await exists(pool.root, loopDirectory(name))))
      throw taken(pool, plan, 'exists and is not a volume of dvflow: choose another name');
    const createdAt = new Date().toISOString();
    // what a PersistentVolume stands for is undone by no run
    const complete = plan.exists;
    return {
      name,
      pool: pool.path,
      bytes,
      complete,
      makers: maker && !plan.exists ? [maker] : [],
      createdAt,
    };
  }
  if (found.pool !== pool.path || found.bytes !== bytes)
    throw taken(pool, plan, `is of an earlier volume of ${found.bytes} bytes in pool ${found.pool}`);
  if (plan.exists) return found;
  const own = found.makers.some(({ runId }) => runId === maker?.runId);
  if (own) return found;
  if (!found.complete || (await isUnused(pool, name)))
    return { ...found, makers: maker ? [...found.makers, maker] : found.makers };
  throw taken(pool, plan, 'may hold the disk of an earlier volume');
}

/** Nothing was ever written into a sparse file without blocks. */
async function isUnused(pool: Pool, name: string): Promise<boolean> {
  const found = await findBackingFile(pool, name);
  if (!found) return true;
  await using file = found;
  return (await file.stat()).blocks === 0;
}

function taken(pool: Pool, { name, node }: LocalVolumePlan, why: string): Error {
  return permanentFailure(
    'ResourceExists',
    `${pool.path}/${loopDirectory(name)} on node ${node} ${why}; what dvflow made is removed by: ` +
      `dvflow local-volume delete ${name} --node ${node}`,
  );
}

/** Promises the bytes; what stands in the way, where there is not enough room. */
async function promise(
  pool: Pool,
  { name, bytes, foreignBytes, overcommit, exists }: LocalVolumePlan,
  context: VolumeContext,
): Promise<LoopVolume['refused']> {
  const directory = loopDirectory(name);
  if ((await readPromise(pool, directory))?.bytes === bytes) return undefined;
  const { roomBytes } = await measurePool(pool, context, { foreignBytes, overcommit });
  // a file that is there has its bytes
  if (!exists && bytes > roomBytes) return { roomBytes, requestBytes: bytes };
  await writePromise(pool, { bytes, directory, dataVolume: { namespace: '', name, uid: directory } });
  return undefined;
}

/** The file with its size, private to root; every block of it, where that was asked for. */
async function makeFile(pool: Pool, { name, bytes, preallocation }: LocalVolumePlan): Promise<void> {
  await using directory = await ensureDirectory(pool.root, loopDirectory(name), { mode: 0o700 });
  await using file = (await findBackingFile(pool, name)) ?? (await createFile(directory));
  if ((await file.stat()).size !== bytes) await file.truncate(bytes);
  if (preallocation) await allocate(file, { name, bytes });
  await file.sync();
  await directory.sync();
  await pool.root.sync();
}

async function createFile(directory: FileHandle): Promise<FileHandle> {
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  return await open(childPath(directory, DISK), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
}

async function allocate(
  file: FileHandle,
  { name, bytes }: Pick<LocalVolumePlan, 'name' | 'bytes'>,
): Promise<void> {
  try {
    await runTool('fallocate', ['--length', `${bytes}`, '/proc/self/fd/3'], { fds: [file.fd] });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw permanentFailure(
      'NoSpace',
      `${bytes} bytes of volume ${name} cannot be allocated: ${reason}`,
      error,
    );
  }
}
