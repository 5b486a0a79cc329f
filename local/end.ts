import { detachLoopDevices, kubeletLoopDevices, removeNodes } from './nodes/remove.js';
import type { LocalNode } from './nodes/types.js';
import { endProcess, endStrays } from './processes.js';
import { recordProcess, requireState } from './state.js';
import type { ProcessName } from './types.js';

/** Processes that end together, in the order in which that happens: what uses something ends before it. */
function ending(nodes: readonly LocalNode[]): readonly (readonly ProcessName[])[] {
  return [
    [
      'worker-control',
      'worker-control-2',
      'worker-node',
      'worker-gateway',
      ...nodes.map(({ name }) => `worker-${name}` as const),
    ],
    nodes.map(({ name }) => `kubelet-${name}` as const),
    nodes.map(({ name }) => `containerd-${name}` as const),
    ['agent', 'kube-scheduler', 'kube-controller-manager', 'temporal'],
    ['kube-apiserver'],
    ['etcd'],
  ];
}

/** Workers hand back what they are doing before they end. */
const WORKER_PATIENCE_MS = 15_000;

/** Servers close their files; an API server without its etcd would wait for ever. */
const SERVER_PATIENCE_MS = 5_000;

/** Time for a process to end by itself before it is killed. */
export function patienceMs(name: ProcessName): number {
  return name.startsWith('worker-') ? WORKER_PATIENCE_MS : SERVER_PATIENCE_MS;
}

/**
 * Ends every process that the stack remembers, in the order of their dependence, and then all that real nodes have in the
 * kernel: pods go as in a power failure, and are started again with their node.
 */
export async function endAll(directory: string): Promise<void> {
  const { nodes } = requireState(directory);
  const devices = nodes.length > 0 ? await kubeletLoopDevices(nodes) : [];
  for (const stage of ending(nodes)) await Promise.all(stage.map((name) => endOne(directory, name)));
  await endStrays(directory);
  await removeNodes(nodes);
  if (process.getuid?.() === 0) await detachLoopDevices(directory, devices);
}

async function endOne(directory: string, name: ProcessName): Promise<void> {
  const record = requireState(directory).processes[name];
  if (record === undefined) return;
  await endProcess(record, patienceMs(name));
  recordProcess(directory, name, undefined);
}
