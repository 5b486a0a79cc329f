/** How much a pool can still promise. */
import { statfs } from 'node:fs/promises';
import { shareReading } from '../shared-reading.js';
import type { ClaimRef, DataVolumeRef, PoolFacts, PoolRef } from '../types.js';
import { ifPoolIsFree } from './lock.js';
import { readMarker } from './marker.js';
import { sumOfNeighbours } from './neighbours.js';
import { measureUsage, readKept, type Kept } from './occupancy.js';
import { directoryName, findPool, openPool, openUnusedPool, type Pool } from './pool.js';
import { hasTraits, realPathOf, recallPool, rememberPool, type PoolContext } from './pool-memory.js';
import { readablePromises, readPromises, type KeptPromise } from './promises.js';
import { lastUsage, refreshUsage } from './usage.js';

/** A pool that cannot be remembered is tried again after so long, in ms: a disk that is full or read-only stays so for a while. */
const REMEMBER_AGAIN_MS = 300_000;

/** What a pool holds, whoever asks. */
interface Holdings {
  readonly totalBytes: number;
  readonly availableBytes: number;
  readonly promisedBytes: number;
  /** What volumes occupy of their promises. */
  readonly usedBytes: number;
  /** What other pools on the same file system have promised, and their volumes do not occupy yet. */
  readonly neighbourBytes: number;
}

/** Whose reservation is looked for. */
interface Holder {
  readonly dataVolume: DataVolumeRef;
  readonly claim: ClaimRef;
}

type Reading = Holdings & {
  readonly kept: readonly Kept[];
  /** The pool's path without links. */
  readonly real: string;
};

/** Readings of pools that are shared by those who ask at the same time, by path: two hundred claims ask at once. */
const readings = new Map<string, () => Promise<Reading>>();

/** When a pool that could not be remembered is tried again, by `performance.now()`. */
const putOff = new Map<string, number>();

/**
 * Capacity, promises and room of a pool on this node, for placement and metrics. To whom `of` names, its own reservation is room:
 * else a run that goes on for another one would find none on its own node. @throws as `openPool`
 */
export async function observePool(
  ref: PoolRef,
  asked: PoolContext & { readonly foreignBytes: number; readonly of?: Holder | undefined },
): Promise<PoolFacts> {
  const { path, overcommit } = ref;
  const { node, foreignBytes, of } = asked;
  let reading = readings.get(path);
  if (!reading) {
    reading = shareReading(() => read(path, asked));
    readings.set(path, reading);
  }
  const found = await reading();
  if (found.kept.length > 0) await remember(ref, found.real, asked);
  const own = of && ownPromise(found, directoryName(of.claim, ref), of);
  if (!own || !(await isUnpublished(own, ref, asked)))
    return factsOf(found, { node, foreignBytes, overcommit });
  return { ...factsOf(found, { node, foreignBytes, overcommit, ownBytes: own.bytes }), held: true };
}

async function read(path: string, context: PoolContext): Promise<Reading> {
  await using pool = await findPool(path, context);
  if (!pool) {
    // nothing was ever promised there, and a look makes no books
    await using root = await openUnusedPool(path, context);
    const neighbourBytes = await sumOfNeighbours({ path, root }, context, (near) => lookIn(near, context));
    const real = await realPathOf(root);
    return { kept: [], promisedBytes: 0, usedBytes: 0, neighbourBytes, real, ...(await readSpace({ root })) };
  }
  await refreshUsage(pool.path, () => measureUsage(path, context));
  return await readHoldings(pool, context, (near) => lookIn(near, context));
}

/**
 * A pool of an earlier release, or one whose overcommit changed, is remembered as it is now. No look waits for the lock of the pool:
 * where that is taken, a later look remembers it, or who holds it.
 */
async function remember(
  { path, overcommit }: PoolRef,
  real: string,
  { node, memory, selinuxfs }: PoolContext,
): Promise<void> {
  const key = `${memory}:${path}`;
  if (performance.now() < (putOff.get(key) ?? 0)) return;
  const known = await recallPool(memory, path);
  if (known && hasTraits(known, { real, overcommit })) return;
  const context = { node, memory, selinuxfs };
  await using pool = await findPool(path, context);
  if (!pool) return;
  const done = await ifPoolIsFree(pool, () => rememberPool(pool, context, overcommit));
  if (done === false) putOff.set(key, performance.now() + REMEMBER_AGAIN_MS);
}

function ownPromise({ kept }: Reading, directory: string, { dataVolume }: Holder): KeptPromise | undefined {
  return kept.find((promise) => promise.file === dataVolume.uid && promise.directory === directory);
}

/** A published volume is nobody's reservation any more. */
async function isUnpublished(
  { directory, dataVolume }: KeptPromise,
  { path }: PoolRef,
  context: PoolContext,
): Promise<boolean> {
  await using pool = await openPool(path, context);
  return (await readMarker(pool, dataVolume.uid))?.directory === directory;
}

/** As {@link observePool}, for who holds the pool's lock: what volumes occupy besides their disks is as old as the last observation. */
export async function measurePool(
  pool: Pool,
  context: PoolContext,
  asked: { readonly foreignBytes: number; readonly overcommit?: number | undefined },
): Promise<PoolFacts> {
  return factsOf(await readHoldings(pool, context), { node: context.node, ...asked });
}

/**
 * Whether so many bytes can be promised, for who holds the pool's lock. Disks are looked at only where it is what they occupy that
 * decides: a thousand of them would hold up everybody behind the lock.
 */
export async function measureRoomFor(
  pool: Pool,
  context: PoolContext,
  {
    requestBytes,
    ...asked
  }: {
    readonly requestBytes: number;
    readonly foreignBytes: number;
    readonly overcommit?: number | undefined;
  },
): Promise<PoolFacts> {
  const promisedBytes = await promisedIn(pool);
  const neighbourBytes = await sumOfNeighbours(pool, context, promisedInNeighbour);
  const least = factsOf(
    { promisedBytes, usedBytes: 0, neighbourBytes, ...(await readSpace(pool)) },
    { node: context.node, ...asked },
  );
  return requestBytes <= least.roomBytes ? least : await measurePool(pool, context, asked);
}

/**
 * Room of a pool: bytes available minus what promises have not used yet, its own and its neighbours', minus what others promised; never below 0. With
 * `overcommit` so many times the bytes that volumes may use at all, minus everything promised.
 */
function factsOf(
  { totalBytes, availableBytes, promisedBytes, usedBytes, neighbourBytes }: Holdings,
  {
    node,
    foreignBytes,
    overcommit = 1,
    ownBytes = 0,
  }: {
    readonly node: string;
    readonly foreignBytes: number;
    readonly overcommit?: number | undefined;
    /** Promised to who asks. */
    readonly ownBytes?: number;
  },
): PoolFacts {
  const capacity = Math.floor((availableBytes + usedBytes) * overcommit);
  const roomBytes = Math.max(0, capacity - (promisedBytes - ownBytes) - foreignBytes - neighbourBytes);
  return { node, roomBytes, totalBytes, promisedBytes, availableBytes };
}

async function readHoldings(
  pool: Pool,
  context: PoolContext,
  ofNeighbour: (neighbour: Pool) => Promise<number> = unusedIn,
): Promise<Reading> {
  const usage = lastUsage(pool.path);
  // Promises first: a disk that grows between the two readings is then counted twice, never not at all.
  const kept = await readKept(pool, { usage, promises: await readPromises(pool) });
  const neighbourBytes = await sumOfNeighbours(pool, context, ofNeighbour);
  const space = await readSpace(pool);
  const used = kept.reduce((bytes, { usedBytes }) => bytes + usedBytes, 0);
  return {
    kept,
    neighbourBytes,
    real: await realPathOf(pool.root),
    promisedBytes: kept.reduce((sum, { bytes }) => sum + bytes, 0),
    // files that have gone since the last look are available now, and not used as well
    // and blocks that a clone shares since then are used once
    usedBytes: Math.min(used, Math.max(0, (usage?.capacityBytes ?? space.totalBytes) - space.availableBytes)),
    ...space,
  };
}

async function promisedIn(pool: Pool): Promise<number> {
  return sumOf(await readPromises(pool));
}

/** A promise that cannot be read must not take the pools beside it with it. */
async function promisedInNeighbour(pool: Pool): Promise<number> {
  return sumOf(await readablePromises(pool));
}

function sumOf(promises: readonly KeptPromise[]): number {
  return promises.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** For who holds no lock: nobody else may ever look at a pool that is no longer in use, and all that it promised would count as unused. */
async function lookIn(neighbour: Pool, context: PoolContext): Promise<number> {
  await refreshUsage(neighbour.path, () => measureUsage(neighbour.path, context));
  return await unusedIn(neighbour);
}

async function unusedIn(neighbour: Pool): Promise<number> {
  const promises = await readablePromises(neighbour);
  const kept = await readKept(neighbour, { usage: lastUsage(neighbour.path), promises });
  return kept.reduce((sum, { bytes, usedBytes }) => sum + bytes - usedBytes, 0);
}

async function readSpace({
  root,
}: Pick<Pool, 'root'>): Promise<Pick<Holdings, 'totalBytes' | 'availableBytes'>> {
  const { bavail, blocks, bsize } = await statfs(`/proc/self/fd/${root.fd}`);
  return { totalBytes: blocks * bsize, availableBytes: bavail * bsize };
}
