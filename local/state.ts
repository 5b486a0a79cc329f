import { chmodSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { layout } from './paths.js';
import type { LocalNode } from './nodes/types.js';
import type { ProcessRecord } from './processes.js';
import type { Tools } from './tools.js';
import type { Ports, ProcessName, StackInfo } from './types.js';

/** What one stack directory remembers: its ports and the processes that were started and not yet ended. */
export interface StackState {
  readonly ports: Ports;
  readonly node: string;
  readonly kubeconfig: string;
  readonly temporalAddress: string;
  readonly uiUrl: string;
  readonly kubectl: readonly string[];
  readonly tools: Tools;
  /** What the stack runs itself; the rest is somebody else's. */
  readonly own: { readonly kubernetes: boolean; readonly temporal: boolean };
  readonly workers: boolean;
  /** Real nodes. */
  readonly nodes: readonly LocalNode[];
  /** Environment that the caller added to that of the workers. */
  readonly environment: Readonly<Record<string, string>>;
  readonly processes: Readonly<Partial<Record<ProcessName, ProcessRecord>>>;
}

/** Reads the state of a stack; undefined when the directory holds none. */
export function readState(directory: string): StackState | undefined {
  try {
    const state = JSON.parse(readFileSync(layout(directory).state, 'utf8')) as StackState;
    return { ...state, nodes: state.nodes ?? [] }; // absent in a stack of an earlier release
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new Error(`cannot read ${layout(directory).state}`, { cause: error });
  }
}

/**
 * Reads the state of a stack that must be there.
 * @throws when the directory holds none
 */
export function requireState(directory: string): StackState {
  const state = readState(directory);
  if (state === undefined) throw new Error(`${directory} holds no local stack`);
  return state;
}

/** Processes that a stack of this shape runs. */
export function processNames({
  own,
  workers,
  nodes,
}: Pick<StackState, 'own' | 'workers' | 'nodes'>): readonly ProcessName[] {
  return [
    ...(own.kubernetes
      ? (['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'] as const)
      : []),
    ...(own.temporal ? (['temporal'] as const) : []),
    'agent',
    ...nodes.flatMap(({ name }) => [`containerd-${name}`, `kubelet-${name}`] as const),
    ...(workers ? workerNames(nodes) : []),
  ];
}

/** The workers: a node worker for each real node, else one for the machine; and the gateway. */
export function workerNames(nodes: readonly LocalNode[]): readonly ProcessName[] {
  const onNodes = nodes.map(({ name }) => `worker-${name}` as const);
  return ['worker-control', ...(nodes.length > 0 ? onNodes : (['worker-node'] as const)), 'worker-gateway'];
}

/** Replaces the state of a stack in one step. */
export function writeState(directory: string, state: StackState): void {
  const path = layout(directory).state;
  writeFileSync(`${path}.new`, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** Changes which processes the stack remembers. */
export function recordProcess(directory: string, name: ProcessName, record: ProcessRecord | undefined): void {
  const state = requireState(directory);
  const { [name]: _, ...others } = state.processes;
  writeState(directory, {
    ...state,
    processes: record === undefined ? others : { ...others, [name]: record },
  });
}

/** Creates the directories of a stack: others may pass through to the pool, keys and tokens are the user's alone. */
export function createDirectories(directory: string): void {
  const { pki, kubeconfigs, tokens, logs, etcd, temporal, pool, workers } = layout(directory);
  mkdirSync(directory, { recursive: true });
  chmodSync(directory, 0o711);
  for (const path of [pki, kubeconfigs, tokens, logs, etcd, temporal, workers]) {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  }
  mkdirSync(pool, { recursive: true });
  chmodSync(pool, 0o755);
}

/** What callers see of a stack's state. */
export function stackInfo(directory: string, state: StackState): StackInfo {
  const { ports, node, nodes, kubeconfig, temporalAddress, uiUrl, kubectl } = state;
  const pids = Object.fromEntries(
    Object.entries(state.processes).map(([name, record]) => [name, record?.pid]),
  );
  return {
    directory,
    kubeconfig,
    temporalAddress,
    uiUrl,
    node,
    nodes,
    pool: layout(directory).pool,
    kubectl,
    ports,
    pids,
  };
}
