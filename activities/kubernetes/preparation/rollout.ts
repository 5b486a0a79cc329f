/**
 * How far a MachineConfigPool is, judged in the order that no race deceives (`vm-disks-docs.md` §(e5)): right after a MachineConfig
 * was made its pool still says `Updated`, of the configuration before.
 */
import type { V1Node } from '@kubernetes/client-node';
import type { PoolRollout } from '../../types/preparation.js';
import { MACHINE_CONFIG_GROUP, type MachineConfigPool } from './objects.js';

/** What the operator's daemon says about its node, in annotations. */
const CURRENT = `${MACHINE_CONFIG_GROUP}/currentConfig`;
const DESIRED = `${MACHINE_CONFIG_GROUP}/desiredConfig`;
const STATE = `${MACHINE_CONFIG_GROUP}/state`;
const REASON = `${MACHINE_CONFIG_GROUP}/reason`;

/** States in which the daemon has given up. */
const FAILED_STATES: readonly (string | undefined)[] = ['Degraded', 'Unreconcilable'];

/** A pool with what decides its rollout. */
export interface RolloutInput {
  readonly pool: MachineConfigPool;
  /** The pool's own nodes. */
  readonly nodes: readonly V1Node[];
  /** Names of the MachineConfigs that must be in it. */
  readonly configs: readonly string[];
  /** The configuration that `spec.configuration` names holds our units as they are now. */
  readonly rendered: boolean;
}

/** Judges a pool. */
export function rolloutOf(input: RolloutInput): PoolRollout {
  const { pool, nodes } = input;
  const { name } = pool.metadata;
  const target = pool.spec?.configuration?.name ?? '';
  const states = nodes.map((node) => ({ node: node.metadata?.name ?? '', ...stateOf(node, target) }));
  const done = input.rendered ? states.filter((one) => one.done).map(({ node }) => node) : [];
  const waiting = states.filter(({ node }) => !done.includes(node));
  const facts = {
    pool: name,
    done,
    nodes: Object.fromEntries(
      waiting.map(({ node, text, done: at }) => [node, at ? 'waits for the configuration' : text]),
    ),
  };
  const { state, message } = judge(input, waiting, target);
  return { ...facts, state, message: `MachineConfigPool ${name}: ${message}` };
}

interface NodeState {
  readonly node: string;
  readonly done: boolean;
  readonly failed: boolean;
  readonly text: string;
}

function judge(
  input: RolloutInput,
  waiting: readonly NodeState[],
  target: string,
): Pick<PoolRollout, 'state' | 'message'> {
  const { pool, nodes, configs } = input;
  const { spec, status, metadata } = pool;
  const told = waiting.map(({ node, text }) => `node ${node} ${text}`).join('; ');
  const count = `${nodes.length - waiting.length} of ${nodes.length} nodes done`;
  const failure = failureOf(pool, waiting);
  if (failure) return { state: 'degraded', message: `${count}; ${failure}` };
  const sources = (spec?.configuration?.source ?? []).map(({ name }) => name);
  const missing = configs.filter((name) => !sources.includes(name));
  // a paused pool renders, and hands nothing on
  if (spec?.paused && (missing.length > 0 || waiting.length > 0 || status?.configuration?.name !== target))
    return { state: 'paused', message: `it is paused: set spec.paused to false to roll out; ${count}` };
  if (missing.length > 0)
    return { state: 'rendering', message: `its configuration does not hold ${missing.join(', ')} yet` };
  if (!input.rendered)
    return { state: 'rendering', message: `${target} does not hold the newest ${configs.join(', ')} yet` };
  if (status?.observedGeneration !== metadata.generation)
    return { state: 'updating', message: `the operator has not looked at ${target} yet; ${count}` };
  if (nodes.length === 0) return { state: 'done', message: 'it has no nodes' };
  if (waiting.length > 0) return { state: 'updating', message: `${count}; ${told}` };
  if (status?.configuration?.name !== target || conditionOf(pool, 'Updated')?.status !== 'True')
    return { state: 'updating', message: `${count}; the operator does not say Updated yet` };
  return { state: 'done', message: `all ${nodes.length} nodes run ${target}` };
}

/** Why a pool does not go on by itself. */
function failureOf(pool: MachineConfigPool, waiting: readonly NodeState[]): string | undefined {
  const failed = waiting.filter((one) => one.failed).map(({ node, text }) => `node ${node} ${text}`);
  const render = conditionOf(pool, 'RenderDegraded');
  const node = conditionOf(pool, 'NodeDegraded');
  if (render?.status === 'True')
    return `its configuration cannot be rendered: ${render.message || render.reason}`;
  if (failed.length > 0) return failed.join('; ');
  if (node?.status === 'True') return node.message || node.reason || 'a node is degraded';
  if (conditionOf(pool, 'Degraded')?.status === 'True') return 'it is degraded';
  return undefined;
}

function conditionOf(
  { status }: MachineConfigPool,
  type: string,
): { status: string; reason?: string; message?: string } | undefined {
  return status?.conditions?.find((condition) => condition.type === type);
}

/** `nodeDoneAt` and `nodeReady` of §(e5). */
function stateOf(node: V1Node, target: string): Omit<NodeState, 'node'> {
  const {
    [CURRENT]: current,
    [DESIRED]: desired,
    [STATE]: state,
    [REASON]: reason,
  } = node.metadata?.annotations ?? {};
  const unready = unreadinessOf(node);
  const at = target !== '' && current === target && desired === target && state === 'Done';
  if (at && !unready) return { done: true, failed: false, text: 'is done' };
  if (desired && FAILED_STATES.includes(state))
    return {
      done: false,
      failed: true,
      text: `is ${state?.toLowerCase()}: ${reason || 'no reason is given'}`,
    };
  if (at) return { done: false, failed: false, text: `has ${target}, but ${unready}` };
  if (desired !== target)
    return {
      done: false,
      failed: false,
      text: unready ? `waits for its turn, and ${unready}` : 'waits for its turn',
    };
  return {
    done: false,
    failed: false,
    text: unready ? `is at work: ${unready}` : `is at work (${state ?? 'no state'})`,
  };
}

/** Only conditions that are present are looked at. */
function unreadinessOf({ spec, status }: V1Node): string | undefined {
  const conditions = status?.conditions ?? [];
  const find = (type: string) => conditions.find((condition) => condition.type === type);
  const ready = find('Ready');
  if (ready && ready.status !== 'True') {
    const since = ready.lastTransitionTime
      ? ` since ${new Date(ready.lastTransitionTime).toISOString()}`
      : '';
    return `it is not Ready${since} (a node that reboots is not)`;
  }
  const pressed = ['DiskPressure', 'NetworkUnavailable'].find(
    (type) => (find(type)?.status ?? 'False') !== 'False',
  );
  if (pressed) return `it has ${pressed}`;
  return spec?.unschedulable ? 'it is cordoned' : undefined;
}
