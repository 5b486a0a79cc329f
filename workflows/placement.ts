import {
  ActivityFailure,
  ApplicationFailure,
  isCancellation,
  log,
  TimeoutFailure,
  workflowInfo,
} from '@temporalio/workflow';
import type {
  ClaimRef,
  NodeCandidate,
  PoolFacts,
  ReservedDirectory,
  TargetPlan,
} from '../activities/types.js';
import type { ScratchPlan } from '../activities/types/scratch.js';
import { cleaningUp, control, probing, reserving } from './activity-options.js';
import type { Lifecycle } from './lifecycle.js';
import { refOf } from './run-state.js';

type Ranked = NodeCandidate & { readonly pool: PoolFacts };

/** What needs room. */
export interface Wanted {
  readonly claim: ClaimRef;
  readonly target: TargetPlan;
  /** Scratch space that will be needed beside the target. */
  readonly scratch?: ScratchPlan | undefined;
}

/**
 * Reserves room and a directory for the claim: on the user's or the scheduler's node, else on the live node with the most room.
 * While no node has room it waits, and says both figures.
 */
export async function reserveOnSomeNode(
  volume: Lifecycle,
  { claim, target, scratch }: Wanted,
): Promise<ReservedDirectory> {
  volume.step('reserving a directory');
  const needed = target.requestBytes + scratchBytes(target, scratch);
  let message = 'room for the claim';
  const wait = { reason: 'InsufficientCapacity', counts: true, message: () => message };
  return await volume.until(wait, async () => {
    const placement = await control.listCandidates({ claim, target });
    if (target.waitForConsumer && placement.chosenBy === 'any') {
      message = `the scheduler to choose another node for a pod that uses claim ${claim.namespace}/${claim.name}`;
      return undefined;
    }
    const silent = new Map<string, string>();
    const ranked = await rank(placement.candidates, target, silent);
    for (const node of ranked) {
      if (node.pool.roomBytes < needed) continue;
      const reserved = await reserve(volume, claim, target, node);
      if (reserved && !reserved.refused) return reserved;
    }
    message = placement.reason ?? shortage({ claim, target, scratch }, ranked, silent);
    const [chosen] = ranked;
    if (placement.chosenBy === 'selected-node' && chosen) {
      const { node, pool } = chosen;
      await control.refuseSelectedNode({
        claim,
        node,
        roomBytes: pool.roomBytes,
        requestBytes: needed,
      });
    } else {
      await volume.event({ type: 'Warning', reason: 'InsufficientCapacity', message });
    }
    return undefined;
  });
}

/**
 * Asks every candidate for its room, most room first, then by name. One that does not answer or has no pool is none; why goes to
 * `silent`, by node.
 */
async function rank(
  candidates: readonly NodeCandidate[],
  target: TargetPlan,
  silent: Map<string, string>,
): Promise<readonly Ranked[]> {
  const asked = await Promise.all(
    candidates.map(async (candidate): Promise<Ranked | undefined> => {
      try {
        const { foreignBytes } = candidate;
        const pool = await probing(candidate.node).observePool({ pool: target.pool, foreignBytes });
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
    .sort((a, b) => b.pool.roomBytes - a.pool.roomBytes || (a.node < b.node ? -1 : 1));
}

async function reserve(
  volume: Lifecycle,
  claim: ClaimRef,
  target: TargetPlan,
  on: Ranked,
): Promise<ReservedDirectory | undefined> {
  const dataVolume = refOf(volume.facts);
  const directory: ReservedDirectory = {
    node: on.node,
    hostname: on.hostname,
    pool: target.pool.path,
    directory: target.pool.useNamingPrefix ? `${claim.name}-pvc-${claim.uid}` : `pvc-${claim.uid}`,
    dataVolume,
    promisedBytes: target.requestBytes,
  };
  // Registered before it exists: an attempt may make it and die before it can say so.
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
    if (!(error instanceof ActivityFailure && error.cause instanceof TimeoutFailure)) throw error;
    log.warn('node died before it could reserve', { node: on.node, error });
    return undefined;
  }
}

/** A target whose scratch space finds no room beside it would keep its own from others for nothing. */
function scratchBytes({ pool }: TargetPlan, scratch: ScratchPlan | undefined): number {
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
