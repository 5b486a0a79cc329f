import { endProcess } from './processes.js';
import { recordProcess, requireState } from './state.js';
import type { ProcessName } from './types.js';

/** Processes that end together, in the order in which that happens: what uses something ends before it. */
const ENDING: readonly (readonly ProcessName[])[] = [
  ['worker-control', 'worker-control-2', 'worker-node'],
  ['agent', 'kube-scheduler', 'kube-controller-manager', 'temporal'],
  ['kube-apiserver'],
  ['etcd'],
];

/** Workers hand back what they are doing before they end. */
const WORKER_PATIENCE_MS = 15_000;

/** Servers close their files; an API server without its etcd would wait for ever. */
const SERVER_PATIENCE_MS = 5_000;

/** Time for a process to end by itself before it is killed. */
export function patienceMs(name: ProcessName): number {
  return name.startsWith('worker-') ? WORKER_PATIENCE_MS : SERVER_PATIENCE_MS;
}

/** Ends every process that the stack remembers, in the order of their dependence. */
export async function endAll(directory: string): Promise<void> {
  for (const stage of ENDING) await Promise.all(stage.map((name) => endOne(directory, name)));
}

async function endOne(directory: string, name: ProcessName): Promise<void> {
  const record = requireState(directory).processes[name];
  if (record === undefined) return;
  await endProcess(record, patienceMs(name));
  recordProcess(directory, name, undefined);
}
