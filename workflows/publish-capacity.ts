import { isCancellation } from '@temporalio/workflow';
import type { CapacityResult, NodeCapacity, NodePool } from '../activities/types/provision.js';
import { control, probing } from './activity-options.js';

/** Asks every node for the room in its pools, and tells it to the scheduler where that can read it. */
export async function publishCapacity(): Promise<CapacityResult> {
  const asked = await control.listNodePools();
  const capacities = await Promise.all(asked.map(ask));
  await control.publishCapacity({ capacities });
  return {
    pools: capacities.map(({ node, pool, facts }) => {
      if (!facts) return { node, pool: pool.path };
      const { roomBytes, promisedBytes, totalBytes } = facts;
      return { node, pool: pool.path, roomBytes, promisedBytes, totalBytes };
    }),
  };
}

/** A node that does not answer, or has no such pool, has no room to offer. */
async function ask(asked: NodePool): Promise<NodeCapacity> {
  const { node, pool, foreignBytes } = asked;
  try {
    return { ...asked, facts: await probing(node).observePool({ pool, foreignBytes }) };
  } catch (error) {
    if (isCancellation(error)) throw error;
    return asked;
  }
}
