/** The steps of `prepareStorage` on one node; what goes wrong there is told about that node and holds up no other. */
import {
  ActivityFailure,
  ApplicationFailure,
  isCancellation,
  log,
  TimeoutFailure,
} from '@temporalio/workflow';
import type { FailureType } from '../activities/types.js';
import type {
  BackingDirectory,
  BackingDirectoryFacts,
  LabelResult,
  NodeStatus,
  PoolRollout,
} from '../activities/types/preparation.js';
import { labelling, preparing } from './activity-options.js';

/** How far a node is. */
export interface NodeOutcome {
  readonly status: NodeStatus;
  /** Directories that share their partition with the operating system. */
  readonly shared: readonly string[];
  /** A deed worth an event: labels that were changed, a directory that was made. */
  readonly done: readonly string[];
}

/** What no label cures; a permission that is denied, a label may. */
const IN_THE_WAY = 'NodeUnavailable' satisfies FailureType;

/** Makes, labels and verifies every directory on a node that labels by itself. */
export async function prepareNode(
  node: string,
  directories: readonly BackingDirectory[],
): Promise<NodeOutcome> {
  return await outcomeOf(node, async (notes) => {
    for (const { path } of directories) {
      const facts = await preparing(node).ensureBackingDirectory({ pool: { path }, labelledBy: 'node' });
      note(notes, facts, node);
      if (facts.selinux === 'disabled') continue;
      const labelled = await labelAll(node, path);
      if (labelled.changed > 0)
        notes.done.push(
          `${labelled.changed} of ${labelled.examined} entries of ${path} on node ${node} were labelled`,
        );
      if (labelled.tooDeep > 0)
        notes.texts.push(`${labelled.tooDeep} directories below ${path} lie too deep to be labelled`);
      const { rule, message } = await preparing(node).ensureLabelRule({ path });
      if (rule === 'unavailable') notes.texts.push(message);
      await verify(node, path);
    }
    return ready(node, directories, notes);
  });
}

/**
 * Why a node cannot be prepared by a MachineConfig whatever that does: its worker sees no disk of the node there. A node that does
 * not answer is none of these: the MachineConfig needs no worker.
 */
export async function obstacleOf(
  node: string,
  directories: readonly BackingDirectory[],
): Promise<NodeOutcome | undefined> {
  try {
    for (const { path } of directories)
      await preparing(node).ensureBackingDirectory({ pool: { path }, labelledBy: 'machineConfig' });
    return undefined;
  } catch (error) {
    if (isCancellation(error)) throw error;
    const cause = error instanceof ActivityFailure ? error.cause : error;
    log.warn('node cannot be prepared by a MachineConfig', { node, error });
    const isInTheWay = cause instanceof ApplicationFailure && cause.type === IN_THE_WAY;
    return isInTheWay ? failed(node, messageOf(node, error)) : undefined;
  }
}

/** Verifies a node whose label a MachineConfig has set; until it has, says how far the rollout is there. */
export async function verifyNode(
  node: string,
  directories: readonly BackingDirectory[],
  { rollout, unreachable }: { rollout: PoolRollout | undefined; unreachable: string | undefined },
): Promise<NodeOutcome> {
  if (unreachable !== undefined) return failed(node, unreachable);
  if (!rollout?.done.includes(node)) {
    const message = rollout?.nodes[node] ?? 'waits for its MachineConfigPool';
    return { status: { name: node, phase: 'Progressing', message }, shared: [], done: [] };
  }
  return await outcomeOf(node, async (notes) => {
    for (const { path } of directories) {
      const facts = await preparing(node).ensureBackingDirectory({
        pool: { path },
        labelledBy: 'machineConfig',
      });
      note(notes, facts, node);
      await verify(node, path, ', although its MachineConfig is applied: look at the unit on the node');
    }
    return ready(node, directories, notes);
  });
}

/** Labelling goes on, call after call, until the whole tree is done; each call is bounded. */
async function labelAll(node: string, path: string): Promise<LabelResult> {
  let result: LabelResult;
  let after: LabelResult | undefined;
  do {
    result = await labelling(node).labelBackingDirectory({ path, ...(after ? { after } : {}) });
    after = result;
    // not `!complete`: an answer without it, as a mutant gives, must not spin
  } while (result.complete === false);
  return result;
}

/** @throws ApplicationFailure where the label that is read back is not the one that was set */
async function verify(node: string, path: string, although = ''): Promise<void> {
  const { labelled, message } = await preparing(node).verifyBackingDirectory({ path });
  if (!labelled) throw ApplicationFailure.nonRetryable(message + although, 'PermissionDenied');
}

interface Notes {
  readonly texts: string[];
  readonly shared: string[];
  readonly done: string[];
}

function note(
  notes: Notes,
  { path, created, sharedWith, selinux }: BackingDirectoryFacts,
  node: string,
): void {
  if (created) notes.done.push(`directory ${path} was made on node ${node}`);
  if (sharedWith !== undefined) notes.shared.push(`${path} with ${sharedWith} on node ${node}`);
  if (selinux !== 'enforcing') notes.texts.push(`SELinux is ${selinux}`);
}

function ready(node: string, directories: readonly BackingDirectory[], notes: Notes): NodeStatus {
  const paths = directories.map(({ path }) => path).join(', ');
  const message = [`${paths} ready`, ...new Set(notes.texts)].join('; ');
  return { name: node, phase: 'Ready', message };
}

async function outcomeOf(node: string, work: (notes: Notes) => Promise<NodeStatus>): Promise<NodeOutcome> {
  const notes: Notes = { texts: [], shared: [], done: [] };
  try {
    return { status: await work(notes), shared: notes.shared, done: notes.done };
  } catch (error) {
    if (isCancellation(error)) throw error;
    log.warn('node is not prepared', { node, error });
    return { ...failed(node, messageOf(node, error)), shared: notes.shared, done: notes.done };
  }
}

function failed(node: string, message: string): NodeOutcome {
  return { status: { name: node, phase: 'Degraded', message }, shared: [], done: [] };
}

/** A worker that does not begin is not there; one that began and did not end is, and its step takes too long or hangs. */
function timeoutOf(node: string, { timeoutType }: TimeoutFailure, error: unknown): string {
  if (timeoutType === 'SCHEDULE_TO_START') return `no node worker answers on ${node}`;
  const step = error instanceof ActivityFailure ? error.activityType : 'a step';
  const how = timeoutType === 'HEARTBEAT' ? 'was not heard of any more' : 'did not end in time';
  return `${step} began on ${node} and ${how}: the worker died, or a file system hangs there`;
}

/** What a condition says of a node on which a step failed. */
export function messageOf(node: string, error: unknown): string {
  const cause = error instanceof ActivityFailure ? error.cause : error;
  if (cause instanceof TimeoutFailure) return timeoutOf(node, cause, error);
  return cause instanceof Error ? cause.message : String(cause);
}
