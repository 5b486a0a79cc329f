import { isCancellation } from '@temporalio/workflow';
import type { PoolRef } from '../activities/types.js';
import type { NodeReport } from '../activities/types/operators.js';
import { control, probing } from './activity-options.js';

/** A node, and what its worker says; without a report it did not answer in time, or could not. */
export interface ExaminedNode {
  readonly node: string;
  readonly report?: NodeReport;
}

/** What `dvflow doctor` learns from the workers. */
export interface Examination {
  /** Pools of all HostPathProvisioners, as the control worker reads them. */
  readonly pools: readonly PoolRef[];
  readonly nodes: readonly ExaminedNode[];
}

/** Asks every node's worker about itself and the pools that it is to have: nothing is made or changed. A node that is silent for 3 s has no report. */
export async function examineNodes(): Promise<Examination> {
  const { nodes, pools, placed } = await control.listNodes();
  return {
    pools,
    nodes: await Promise.all(nodes.map((node) => examine(node, poolsOn(node, pools, placed)))),
  };
}

/** The pools that a node is to have; of one that nobody has told the nodes of yet, every node may be one. */
export function poolsOn(
  node: string,
  pools: readonly PoolRef[],
  placed: Readonly<Record<string, readonly string[]>> | undefined,
): readonly PoolRef[] {
  return pools.filter(({ path }) => placed?.[path]?.includes(node) ?? true);
}

async function examine(node: string, pools: readonly PoolRef[]): Promise<ExaminedNode> {
  try {
    return { node, report: await probing(node).examineNode({ pools }) };
  } catch (error) {
    if (isCancellation(error)) throw error;
    return { node };
  }
}
