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

/** Time for a process to end by itself before it is killed; workers hand back what they are doing. */
export const PATIENCE_MS = 15_000;

/** Ends every process that the stack remembers, in the order of their dependence. */
export async function endAll(directory: string): Promise<void> {
  for (const stage of ENDING) await Promise.all(stage.map((name) => endOne(directory, name)));
}

async function endOne(directory: string, name: ProcessName): Promise<void> {
  const record = requireState(directory).processes[name];
  if (record === undefined) return;
  await endProcess(record, PATIENCE_MS);
  recordProcess(directory, name, undefined);
}
