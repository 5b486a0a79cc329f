import {
  ActivityFailure,
  ChildWorkflowCancellationType,
  isCancellation,
  log,
  ParentClosePolicy,
  patched,
  sleep,
  startChild,
  TimeoutFailure,
  workflowInfo,
  type ChildWorkflowHandle,
} from '@temporalio/workflow';
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import type { ItemPage, PoolRef, UnpublishedItem } from '../activities/types.js';
import { poolsOn } from './examine-nodes.js';
import { control, probing, sweeping, sweepingOn } from './activity-options.js';
import { requireArgument } from './arguments.js';
import { recordMetric } from './metrics.js';
import type { returnReservedVolume } from './return-reserved-volume.js';
import { isTimeout } from './silent-node.js';
import { takeMark } from './stale-marks.js';
import { returnVolume } from './static-volume.js';
import { CONTROL_QUEUE, returnWorkflowId } from './task-queues.js';

/** Histories of before hold the return of a volume among their own steps. */
const APART = 'reserved volumes are returned apart';

/** Histories of before hold one list, one judgement, and a try for each directory of a node that went silent. */
const IN_PARTS = 'sweeps in parts';

/** Items of one list and of one judgement: a fraction of what Temporal takes in one payload. */
const PAGE = 500;
const PART = 200;

/** Temporal ends a run of 51200 events: what is left by then is the next sweep's. */
const MOST_EVENTS = 40_000;

/** A sweep waits so long for the volumes that are being given back, and leaves them to their own runs. */
const PATIENCE = '10s';

type Return = ChildWorkflowHandle<typeof returnReservedVolume>;

/** What one sweep found and removed. */
export interface SweepResult {
  readonly found: number;
  readonly removed: readonly string[];
  /** Nodes that did not answer; their directories wait for the next sweep. */
  readonly silentNodes: readonly string[];
}

/**
 * Removes what terminated lifecycles left: unpublished claims, volumes, Secret copies, directories, block volumes and what nodes know of
 * transfers, whose four conditions hold (`design.md` §6, How a workflow ends). A finished disk is never among them; one that a user has
 * loses the mark. With `node`, only that node's directories: run when a node answers again.
 * @throws {@link FailureType} `InvalidArgument`
 */
export async function sweep(input: { node?: string } = {}): Promise<SweepResult> {
  const give = 'no argument, or {"node":"..."} of a node of the cluster';
  requireArgument(input, { type: 'InvalidArgument', give, members: { node: 'name?' } });
  const { nodes, pools, placed } = await control.listNodes();
  const asked = input.node === undefined ? nodes : [input.node];
  const silentNodes: string[] = [];
  const directories = await Promise.all(
    asked.map((node) => {
      const judged = poolsOn(node, pools, placed).map(({ path }) => path);
      return listDirectories(node, { pools, judged }, silentNodes);
    }),
  );
  const objects = await allPages(async (page) => await control.listUnpublished(page));
  const items = [...objects, ...directories.flat()];
  const judged = await judge(items);
  const doomed = judged.filter(({ published }) => !published);
  for (const { kind, reserved } of doomed)
    if (!reserved) recordMetric('dvflow_leaked_objects_found_total', 1, { kind });
  for (const item of judged) if (item.published && !isFull()) await takeMark(item);
  const removed: string[] = [];
  // Directories first: a claim's volume must not be offered again while the old bytes are there.
  const returns = new Map<string, Return>();
  for (const item of [...doomed].sort(byKind)) {
    if (isFull()) break;
    if (isOnNode(item) && silentNodes.includes(item.where) && patched(IN_PARTS)) continue;
    if (item.reserved && patched(APART)) await startReturn(item, returns);
    else if (await remove(item, silentNodes)) removed.push(nameOf(item));
  }
  removed.push(...(await returnedOf(returns)));
  if (input.node === undefined) {
    recordMetric('dvflow_sweep_silent_nodes', silentNodes.length);
    recordMetric('dvflow_sweep_end_timestamp_seconds', Date.now() / 1000);
  }
  return { found: items.length, removed, silentNodes: silentNodes.sort() };
}

async function listDirectories(
  node: string,
  input: { readonly pools: readonly PoolRef[]; readonly judged: readonly string[] },
  silent: string[],
): Promise<readonly UnpublishedItem[]> {
  try {
    return await allPages(
      async (page) => await probing(node).listUnpublishedDirectories({ ...input, ...page }),
    );
  } catch (error) {
    if (isCancellation(error)) throw error;
    if (hasAnswered(error)) log.warn('node cannot list what it has', { node, error });
    else {
      log.warn('node does not answer the sweeper', { node, error });
      silent.push(node);
    }
    return [];
  }
}

/** All items of a list, however long. */
async function allPages(
  list: (page: ItemPage) => Promise<readonly UnpublishedItem[]>,
): Promise<readonly UnpublishedItem[]> {
  const items: UnpublishedItem[] = [];
  for (let after: UnpublishedItem | undefined; ;) {
    const page = await list({ limit: PAGE, ...(after ? { after } : {}) });
    const last = page.at(-1);
    // a worker of before knows no pages, and tells everything each time
    const again = last && after && nameOf(last) === nameOf(after);
    if (!again) items.push(...page);
    if (!last || again || page.length !== PAGE || !patched(IN_PARTS)) return items;
    after = last;
  }
}

/** Part by part, so that one which cannot be judged leaves the others. */
async function judge(items: readonly UnpublishedItem[]): Promise<readonly UnpublishedItem[]> {
  const size = items.length > PART && patched(IN_PARTS) ? PART : Math.max(items.length, 1);
  const judged: UnpublishedItem[] = [];
  const failures: unknown[] = [];
  for (let at = 0; at < items.length; at += size) {
    try {
      judged.push(...(await sweeping.judgeUnpublished({ items: items.slice(at, at + size) })));
    } catch (error) {
      if (isCancellation(error)) throw error;
      log.warn('left to the next sweep', { items: `${at} to ${Math.min(at + size, items.length)}`, error });
      failures.push(error);
    }
  }
  if (failures.length > 0 && failures.length === Math.ceil(items.length / size)) throw failures[0];
  return judged;
}

/** Whether this run has taken as many steps as it may; one of before went on. */
function isFull(): boolean {
  return workflowInfo().historyLength >= MOST_EVENTS && patched(IN_PARTS);
}

/** Begins to give a volume back; where an earlier sweep's run still does that, it goes on. */
async function startReturn(item: UnpublishedItem, returns: Map<string, Return>): Promise<void> {
  try {
    const run = await startChild<typeof returnReservedVolume>('returnReservedVolume', {
      workflowId: returnWorkflowId(item.dataVolume.uid),
      taskQueue: CONTROL_QUEUE,
      args: [item],
      parentClosePolicy: ParentClosePolicy.ABANDON,
      cancellationType: ChildWorkflowCancellationType.ABANDON,
    });
    returns.set(nameOf(item), run);
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
    log.info('still being given back', { item: nameOf(item) });
  }
}

/** Names of those that are given back while the sweep waits. */
async function returnedOf(returns: ReadonlyMap<string, Return>): Promise<readonly string[]> {
  if (returns.size === 0) return [];
  const returned: string[] = [];
  const all = [...returns].map(async ([name, run]) => {
    try {
      if ((await run.result()).returned) returned.push(name);
    } catch (error) {
      log.warn('left to the next sweep', { item: name, error });
    }
  });
  await Promise.race([Promise.all(all), sleep(PATIENCE)]);
  return returned;
}

/** Judges once more, since the first word may be minutes old by now; what fails is left to the next sweep. */
async function remove(item: UnpublishedItem, silentNodes: string[]): Promise<boolean> {
  try {
    const [still] = await sweeping.judgeUnpublished({ items: [item] });
    if (!still || still.published) return false;
    if (item.reserved) {
      recordMetric('dvflow_leaked_objects_found_total', 1, { kind: item.kind });
      if (!(await returnVolume(item.dataVolume, sweeping))) return false;
    } else if (isOnNode(item)) await sweepingOn(item.where).removeUnpublishedDirectory({ item });
    else await sweeping.removeUnpublished({ item });
    recordMetric('dvflow_leaked_objects_removed_total', 1, { kind: item.kind });
    return true;
  } catch (error) {
    if (isCancellation(error)) throw error;
    log.warn('left to the next sweep', { item: nameOf(item), error });
    if (isOnNode(item) && isUntaken(error) && !silentNodes.includes(item.where)) silentNodes.push(item.where);
    return false;
  }
}

/** A worker has taken the step and failed, as of a pool that is broken: it is there. */
function hasAnswered(error: unknown): boolean {
  return error instanceof ActivityFailure && !isTimeout(error);
}

/** Nobody has taken the step: the node went silent since it was asked. */
function isUntaken(error: unknown): boolean {
  const cause = error instanceof ActivityFailure ? error.cause : undefined;
  return cause instanceof TimeoutFailure && cause.timeoutType === 'SCHEDULE_TO_START';
}

function isOnNode({ kind }: UnpublishedItem): boolean {
  return kind === 'Directory' || kind === 'BlockVolume' || kind === 'TransferState';
}

function byKind(a: UnpublishedItem, b: UnpublishedItem): number {
  return Number(isOnNode(b)) - Number(isOnNode(a));
}

function nameOf(item: UnpublishedItem): string {
  return `${item.kind} ${item.where}/${item.name}`;
}
