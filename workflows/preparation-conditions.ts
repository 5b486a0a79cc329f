/** How a HostPathProvisioner stands, as its conditions tell it; reasons of the good ones are hostpath-provisioner's operator's. */
import type { NodeStatus, PoolRollout, ProvisionerCondition } from '../activities/types/preparation.js';

/** What one look at everything has found. */
export interface Round {
  readonly nodes: readonly NodeStatus[];
  /** Nodes of the cluster, chosen or not. */
  readonly total: number;
  readonly rollouts: readonly PoolRollout[];
  /** Directories that share their partition with the operating system: `/var/hpvolumes with /var on node n1`. */
  readonly shared: readonly string[];
  /** What an operator should know besides. */
  readonly notes: readonly string[];
  /** What ends the run. */
  readonly failure?: Failure;
}

/** Why a run ends without having prepared everything. */
export interface Failure {
  readonly type: string;
  readonly message: string;
}

/** Nodes named in a condition; the status lists the others. */
const MAX_NAMED = 20;

/** The directory holds volumes, and the partition of the operating system fills with them. */
export const SHARED_REASON = 'PoolPathSharedWithOS';

/** Everything is as it should be. */
export function isSettled({ nodes, rollouts, failure }: Round): boolean {
  return (
    failure === undefined &&
    nodes.every(({ phase }) => phase === 'Ready') &&
    rollouts.every(({ state }) => state === 'done')
  );
}

/** How far all nodes together are: those that are ready, and those whose configuration has arrived. */
export function reachedIn({ nodes, rollouts }: Pick<Round, 'nodes' | 'rollouts'>): number {
  const ready = nodes.filter(({ phase }) => phase === 'Ready').length;
  return ready + rollouts.reduce((sum, { done }) => sum + done.length, 0);
}

/** The conditions of a round. */
export function conditionsOf(round: Round): readonly ProvisionerCondition[] {
  return [availability(round), progress(round), degradation(round)];
}

function availability({ nodes, total, shared, notes, failure }: Round): ProvisionerCondition {
  if (failure && nodes.length === 0)
    return { type: 'Available', status: 'False', reason: failure.type, message: failure.message };
  const ready = nodes.filter(({ phase }) => phase === 'Ready').length;
  const warnings = shared.length === 0 ? [] : [`${sharedText(shared)}: volumes can fill it and end the node`];
  const count =
    nodes.length === 0
      ? `workload selects none of ${total} nodes`
      : `${ready} of ${nodes.length} nodes are ready`;
  const message = [count, ...warnings, ...notes].join('; ');
  if (ready === 0) {
    const reason = nodes.length === 0 ? 'NoNodes' : 'Preparing';
    return { type: 'Available', status: 'False', reason, message };
  }
  const reason = shared.length === 0 ? 'Complete' : SHARED_REASON;
  return { type: 'Available', status: 'True', reason, message };
}

function progress({ nodes, rollouts, failure }: Round): ProvisionerCondition {
  const moving = nodes.filter(({ phase }) => phase === 'Progressing');
  const rolling = rollouts.filter(({ state }) => state !== 'done');
  if (failure !== undefined || moving.length + rolling.length === 0)
    return { type: 'Progressing', status: 'False', reason: failure?.type ?? 'Complete', message: '' };
  const texts = [...rolling.map(({ message }) => message), ...listed(moving)];
  const reason = rolling.length > 0 ? 'RollingOut' : 'Preparing';
  return { type: 'Progressing', status: 'True', reason, message: texts.join('; ') };
}

function degradation({ nodes, rollouts, failure }: Round): ProvisionerCondition {
  const problems = [
    ...(failure ? [{ reason: failure.type, message: failure.message }] : []),
    ...rollouts
      .filter(({ state }) => state === 'paused' || state === 'degraded')
      .map(({ state, message }) => ({
        reason: state === 'paused' ? 'MachineConfigPoolPaused' : 'MachineConfigPoolDegraded',
        message,
      })),
    ...listed(nodes.filter(({ phase }) => phase === 'Degraded')).map((message) => ({
      reason: 'NodesDegraded',
      message,
    })),
    ...(nodes.length === 0 && !failure
      ? [{ reason: 'NoNodes', message: 'no node takes part: look at spec.workload' }]
      : []),
  ];
  const [first] = problems;
  if (!first) return { type: 'Degraded', status: 'False', reason: 'Complete', message: '' };
  const message = problems.map((problem) => problem.message).join('; ');
  return { type: 'Degraded', status: 'True', reason: first.reason, message };
}

/** In words: `/var/hpvolumes shares its partition with /var on node n1, …`. */
export function sharedText(shared: readonly string[]): string {
  return `shared with the operating system: ${cut(shared).join(', ')}`;
}

function listed(nodes: readonly NodeStatus[]): readonly string[] {
  return cut(nodes.map(({ name, message }) => `node ${name}: ${message}`));
}

function cut(texts: readonly string[]): readonly string[] {
  const more = texts.length - MAX_NAMED;
  return more > 0 ? [...texts.slice(0, MAX_NAMED), `and ${more} more`] : texts;
}
