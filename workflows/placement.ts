import {
  ActivityFailure,
  ApplicationFailure,
  isCancellation,
  log,
  patched,
  workflowInfo,
} from '@temporalio/workflow';
import type {
  ClaimRef,
  NodeCandidate,
  PlacementFacts,
  DataVolumeRef,
  PoolFacts,
  ReservedDirectory,
} from '../activities/types.js';
import type { ScratchPlan } from '../activities/types/scratch.js';
import { cleaningUp, control, probing, reserving, type Patience } from './activity-options.js';
import type { VolumePlan } from '../activities/types/provision.js';
import { isSilence, isTimeout } from './silent-node.js';
import type { Lifecycle } from './volume-lifecycle.js';
import { refOf } from './run-state.js';

/** What NAME_MAX leaves for the prefix of a directory's name: 255 bytes less `-pvc-` and a uid (`directoryName` of the node). */
const PREFIX_LENGTH = 255 - 5 - 36;

/** How waiting for the scheduler's next choice begins. */
export const NEXT_CHOICE = 'the scheduler to choose another node';

/** Histories of before fail where a pool cannot be used while they reserve in it. */
const WAITS_FOR_POOL = 'placement waits for a pool';

/** What a volume is placed for: a DataVolume's lifecycle, or a plain claim. */
export type Placing = Pick<Lifecycle, 'event' | 'onFailure' | 'step' | 'until'> & {
  readonly facts: DataVolumeRef;
};

type Ranked = NodeCandidate & { readonly pool: PoolFacts };

/** What needs room. */
export interface Wanted {
  readonly claim: ClaimRef;
  readonly target: VolumePlan;
  /** Scratch space that will be needed beside the target. */
  readonly scratch?: ScratchPlan | undefined;
  /** Node that is asked first, if it has room, where nobody has chosen another one. */
  readonly prefer?: string | undefined;
  /** How long a node has to begin its answer. @default '3s' */
  readonly patience?: Patience;
}

/**
 * Reserves room and a directory for the claim: on the user's or the scheduler's node, else where a run before has reserved them, else
 * on the live node with the most room.
 * While no node has room it waits, and says both figures.
 */
export async function reserveOnSomeNode(volume: Placing, wanted: Wanted): Promise<ReservedDirectory> {
  volume.step('reserving a directory');
  const { claim, target, scratch } = wanted;
  const needed = target.requestBytes + scratchBytes(target, scratch);
  let message = 'room for the claim';
  /** Nodes where what a reservation may have left is undone already. */
  const undone = new Set<string>();
  /** Looks in a row at which no candidate had anything to say. */
  let silences = 0;
  const wait = { reason: 'InsufficientCapacity', counts: true, message: () => message };
  return await volume.until(wait, async () => {
    const placement = await control.listCandidates({ claim, target });
    if (target.waitForConsumer && placement.chosenBy === 'any' && !placement.immediate) {
      message = `${NEXT_CHOICE} for a pod that uses claim ${claim.namespace}/${claim.name}`;
      return undefined;
    }
    const silent = new Map<string, string>();
    const ranked = await rank(volume, placement.candidates, { ...wanted, silent });
    for (const node of ranked) {
      // what is reserved already needs no room
      if (!node.pool.held && node.pool.roomBytes < needed) continue;
      const reserved = await reserve(volume, { claim, target, silent, undone }, node);
      if (reserved && !reserved.refused) return reserved;
    }
    message = placement.reason ?? shortage(wanted, ranked, silent);
    // A worker that is only starting anew answers the next look.
    silences = ranked.length === 0 ? silences + 1 : 0;
    const refuse = placement.chosenBy === 'selected-node' && (ranked.length > 0 || silences > 1);
    await sayNoRoom(volume, claim, {
      needed,
      message,
      ranked,
      silent,
      ...(refuse ? { refused: placement } : {}),
    });
    return undefined;
  });
}

/** Says why there is no volume yet; a scheduler's choice is given back to it, so that its pod is not held where nothing can be made. */
async function sayNoRoom(
  volume: Placing,
  claim: ClaimRef,
  no: {
    readonly needed: number;
    readonly message: string;
    readonly ranked: readonly Ranked[];
    readonly silent: ReadonlyMap<string, string>;
    readonly refused?: PlacementFacts;
  },
): Promise<void> {
  const { message, needed, ranked, silent, refused } = no;
  const [chosen] = ranked;
  const node = chosen?.node ?? refused?.named;
  if (!refused || node === undefined) {
    return await volume.event({ type: 'Warning', reason: 'InsufficientCapacity', message });
  }
  // one that has room may have gone silent before it could reserve
  const unusable = chosen ? silent.get(chosen.node) : message;
  const why = {
    roomBytes: chosen?.pool.roomBytes ?? 0,
    ...(unusable === undefined ? {} : { unusable }),
  };
  await control.refuseSelectedNode({ claim, node, requestBytes: needed, ...why });
}

/**
 * Asks every candidate for its room: one where a run before has reserved first, then the preferred one, then most room, then by
 * name. One that does not answer or has no pool is none; why goes to `silent`, by node.
 */
async function rank(
  { facts }: Placing,
  candidates: readonly NodeCandidate[],
  { claim, target, patience, prefer, silent }: Wanted & { readonly silent: Map<string, string> },
): Promise<readonly Ranked[]> {
  const asks = { pool: target.pool, of: { dataVolume: refOf(facts), claim } };
  const asked = await Promise.all(
    candidates.map(async (candidate): Promise<Ranked | undefined> => {
      try {
        const { foreignBytes } = candidate;
        const pool = await probing(candidate.node, patience).observePool({ ...asks, foreignBytes });
        return { ...candidate, pool };
      } catch (error) {
        if (isCancellation(error)) throw error;
        log.warn('node has no room to offer', { node: candidate.node, error });
        silent.set(candidate.node, whySilent(candidate.node, error));
        return undefined;
      }
    }),
  );
  return asked
    .filter((node) => node !== undefined)
    .sort(
      (a, b) =>
        Number(b.pool.held ?? false) - Number(a.pool.held ?? false) ||
        Number(b.node === prefer) - Number(a.node === prefer) ||
        b.pool.roomBytes - a.pool.roomBytes ||
        (a.node < b.node ? -1 : 1),
    );
}

/** `undefined` where the node or its pool went silent since it was asked for its room; why goes to `silent`. */
async function reserve(
  volume: Placing,
  {
    claim,
    target,
    silent,
    undone,
  }: Wanted & { readonly silent: Map<string, string>; readonly undone: Set<string> },
  on: Ranked,
): Promise<ReservedDirectory | undefined> {
  const dataVolume = refOf(volume.facts);
  const directory: ReservedDirectory = {
    node: on.node,
    hostname: on.hostname,
    pool: target.pool.path,
    directory: target.pool.useNamingPrefix
      ? `${claim.name.slice(0, PREFIX_LENGTH)}-pvc-${claim.uid}`
      : `pvc-${claim.uid}`,
    dataVolume,
    promisedBytes: target.requestBytes,
  };
  // Registered before it exists: an attempt may make it and die before it can say so.
  if (!undone.has(on.node))
    volume.onFailure(`remove directory ${directory.directory} on node ${on.node}`, () =>
      cleaningUp(on.node).removeDirectory({ directory }),
    );
  try {
    return await reserving(on.node).reserveDirectory({
      dataVolume,
      claim,
      pool: target.pool,
      hostname: on.hostname,
      requestBytes: target.requestBytes,
      foreignBytes: on.foreignBytes,
      workflowId: workflowInfo().workflowId,
    });
  } catch (error) {
    if (isCancellation(error) || !isSilence(error)) throw error;
    // the server ends the reservation by its last failure where the next try would come too late
    if (!isTimeout(error)) {
      if (!patched(WAITS_FOR_POOL)) throw error;
      undone.add(on.node);
    }
    log.warn('node could not reserve in time', { node: on.node, error });
    silent.set(on.node, whySilent(on.node, error));
    return undefined;
  }
}

/** A target whose scratch space finds no room beside it would keep its own from others for nothing. */
function scratchBytes({ pool }: Pick<VolumePlan, 'pool'>, scratch: ScratchPlan | undefined): number {
  return scratch?.pool.path === pool.path ? scratch.promisedBytes : 0;
}

/** Why a node has nothing to offer, in words. */
export function whySilent(node: string, error: unknown): string {
  const cause = error instanceof ActivityFailure ? error.cause : undefined;
  return cause instanceof ApplicationFailure ? cause.message : `no node worker answers on ${node}`;
}

function shortage(
  { claim, target, scratch }: Wanted,
  ranked: readonly Ranked[],
  silent: ReadonlyMap<string, string>,
): string {
  const beside = scratchBytes(target, scratch);
  const asks =
    `claim ${claim.namespace}/${claim.name} asks for ${target.requestBytes} bytes` +
    (beside > 0 ? ` and ${beside} of scratch space` : '');
  const rooms = ranked.map(({ node, pool }) => `${pool.roomBytes} on node ${node}`);
  const pool = rooms.length === 0 ? [] : [`pool ${target.pool.path} has room for ${rooms.join(', ')}`];
  const offers = [...pool, ...silent.values()];
  return `${asks}, ${offers.length === 0 ? 'and no node is a candidate' : offers.join('; ')}`;
}
