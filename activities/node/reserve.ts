import { asyncLocalStorage } from '@temporalio/activity';
import { permanentFailure } from '../failures.js';
import type { NodeActivities } from '../interfaces.js';
import type { ReservedDirectory } from '../types.js';
import { poolFailure } from './denied.js';
import { ensureDirectory, exists, findDirectory, namesIn, type Owner } from './directories.js';
import { withPoolLock } from './lock.js';
import { readMarker, readRecord, setStateAside, writeMarker, type Marker } from './marker.js';
import { directoryName, preparePool, volumeName, type Pool } from './pool.js';
import { rememberPool, type PoolContext } from './pool-memory.js';
import { nameAside, removeUnpublished } from './remove.js';
import { readPromise, setPromiseAside, writePromise } from './promises.js';
import { removeTree } from './remove-tree.js';
import { measureRoomFor } from './room.js';

/** Input of `reserveDirectory`. */
export type ReserveInput = Parameters<NodeActivities['reserveDirectory']>[0];

/** Mode of a volume's directory: KubeVirt's qemu (107) reads and writes, others may only pass. */
const VOLUME_MODE = 0o771;

/** The node that works, and whom its disks belong to (`undefined`: its own user). */
export interface NodeContext extends PoolContext {
  readonly transferUser?: Owner | undefined;
}

/**
 * Capacity and directory in one step under the pool's lock. Order at birth: marker, promise, directory; a run that dies between
 * leaves a marker, by which the next attempt goes on or the sweeper removes the rest.
 * @throws {@link FailureType} `ResourceExists` when the directory is somebody's disk already; retried: `NoSpace`, `PermissionDenied`
 */
export async function reserveDirectory(
  input: ReserveInput,
  context: NodeContext,
): Promise<ReservedDirectory> {
  const { dataVolume, hostname, workflowId } = input;
  const { node, transferUser, selinuxfs } = context;
  const name = volumeName(directoryName(input.claim, input.pool));
  await using pool = await preparePool(input.pool.path, context);
  const denied = { doing: `make ${name} in it`, directory: pool.path, node, selinuxfs };
  const reserve = async (): Promise<ReservedDirectory> => {
    await refuseOthers(pool, name, dataVolume.uid, node);
    const bytes = await promisedBytes(pool, name, input, context);
    const base = { node, hostname, pool: pool.path, directory: name, dataVolume };
    if ('refused' in bytes) return { ...base, promisedBytes: 0, refused: bytes.refused };
    await rememberPool(pool, context, input.pool.overcommit ?? 1);
    await mark(pool, { dataVolume, workflowId, directory: name, node }, transferUser);
    await writePromise(pool, { bytes: bytes.promised, directory: name, dataVolume });
    await using directory = await ensureDirectory(pool.root, name, {
      mode: VOLUME_MODE,
      owner: transferUser,
    });
    await directory.sync();
    await pool.root.sync();
    return { ...base, promisedBytes: bytes.promised };
  };
  try {
    await clearLeftovers(pool, name, dataVolume.uid);
    return await withPoolLock(pool, reserve);
  } catch (error) {
    throw await poolFailure(error, denied);
  }
}

/**
 * Each run of a workflow marks the directory as its own, with a new time: what the sweeper judged as an older run's then no longer
 * matches. A repetition by the same run changes nothing.
 */
async function mark(
  pool: Pool,
  owned: Pick<Marker, 'dataVolume' | 'workflowId' | 'directory' | 'node'>,
  transferUser: Owner | undefined,
): Promise<void> {
  const runId = asyncLocalStorage.getStore()?.info.workflowExecution?.runId;
  const before = await readMarker(pool, owned.dataVolume.uid);
  const ofRun = before?.workflowId === owned.workflowId && before.runId === runId;
  if (ofRun && (before.node ?? owned.node) === owned.node) return;
  const createdAt = new Date().toISOString();
  await writeMarker(pool, { ...owned, ...(runId === undefined ? {} : { runId }), createdAt }, transferUser);
}

/** Removes what an ended run of this DataVolume left: for an older claim, or of a removal that was killed. Not under the pool's lock. */
async function clearLeftovers(pool: Pool, name: string, uid: string): Promise<void> {
  await removeTree(pool.books, nameAside(name));
  const former = await readMarker(pool, uid);
  if (!former || former.directory === name) return;
  await removeUnpublished(pool, former.directory, async () => {
    const marker = await readMarker(pool, uid);
    const same = marker?.directory === former.directory;
    return same && (await isUnfinished(pool, marker)) ? uid : undefined;
  });
}

/** Refuses a directory without our marker: it may be a finished disk. */
async function refuseOthers(pool: Pool, name: string, uid: string, node: string): Promise<void> {
  const marker = await readMarker(pool, uid);
  // whether a whole disk was published, and only its marker stayed, is for the sweeper to find out
  if (marker && marker.directory !== name) await setStateAside(pool, marker);
  if (marker?.directory !== name && (await exists(pool.root, name))) {
    throw permanentFailure(
      'ResourceExists',
      `directory ${pool.path}/${name} on node ${node} exists and is not an unpublished one of DataVolume ${uid}`,
    );
  }
  const promise = await readPromise(pool, uid);
  // An earlier, published volume of the same DataVolume (its claim was deleted, then a retry): it keeps its bytes.
  if (promise && promise.directory !== name) await setPromiseAside(pool, promise);
}

/** Nothing can have been published: the transfer did not come to its end, or nothing was ever written. */
async function isUnfinished(pool: Pool, { dataVolume, directory }: Marker): Promise<boolean> {
  const record = await readRecord(pool, dataVolume.uid);
  if (record) return record.result === undefined;
  const found = await findDirectory(pool.root, directory);
  if (!found) return true;
  await using volume = found;
  return (await namesIn(volume)).length === 0;
}

async function promisedBytes(
  pool: Pool,
  name: string,
  { dataVolume, requestBytes, foreignBytes, pool: { overcommit } }: ReserveInput,
  context: PoolContext,
): Promise<{ promised: number } | { refused: NonNullable<ReservedDirectory['refused']> }> {
  const promise = await readPromise(pool, dataVolume.uid);
  if (promise?.directory === name) return { promised: promise.bytes };
  const { roomBytes } = await measureRoomFor(pool, context, { requestBytes, foreignBytes, overcommit });
  return requestBytes > roomBytes ? { refused: { roomBytes, requestBytes } } : { promised: requestBytes };
}
