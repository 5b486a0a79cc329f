import { stateDirectory } from './paths.js';
import { isReady } from './probes.js';
import { isAlive, signalProcess } from './processes.js';
import { processNames, readState, stackInfo } from './state.js';
import type { ProcessName, StackInfo } from './types.js';

/** How one process of a stack is. */
export interface ProcessStatus {
  readonly name: ProcessName;
  readonly pid?: number;
  readonly state: 'ready' | 'not ready' | 'ended';
}

/** How a stack is: `running` only when every process of it is ready. */
export interface StackStatus {
  readonly directory: string;
  readonly state: 'running' | 'degraded' | 'stopped';
  readonly processes: readonly ProcessStatus[];
  /** Where to reach it; absent when nothing of it runs. */
  readonly info?: StackInfo;
}

/** Looks at every process of a stack; changes nothing. */
export async function stackStatus({
  directory = stateDirectory(),
}: {
  readonly directory?: string;
}): Promise<StackStatus> {
  const state = readState(directory);
  const recorded = state === undefined ? [] : (Object.keys(state.processes) as ProcessName[]);
  if (state === undefined || recorded.length === 0) return { directory, state: 'stopped', processes: [] };
  const names = [...new Set([...processNames(state), ...recorded])];
  const processes = await Promise.all(
    names.map(async (name): Promise<ProcessStatus> => {
      const record = state.processes[name];
      if (record === undefined || !isAlive(record)) return { name, state: 'ended' };
      const ready = await isReady(directory, state, name);
      return { name, pid: record.pid, state: ready ? 'ready' : 'not ready' };
    }),
  );
  const info = stackInfo(directory, state);
  const running = processes.every((process) => process.state === 'ready');
  if (running) return { directory, state: 'running', processes, info };
  const stopped = processes.every((process) => process.state === 'ended');
  return { directory, state: stopped ? 'stopped' : 'degraded', processes, ...(stopped ? {} : { info }) };
}

/** Pid of a process of a running stack; undefined when it does not live. */
export function processPid(info: StackInfo, name: ProcessName): number | undefined {
  const record = readState(info.directory)?.processes[name];
  return record !== undefined && isAlive(record) ? record.pid : undefined;
}

/** Sends a signal to one process of a stack; false when it does not live. */
export function killProcess(info: StackInfo, name: ProcessName, signal: NodeJS.Signals = 'SIGKILL'): boolean {
  const record = readState(info.directory)?.processes[name];
  return record !== undefined && signalProcess(record, signal);
}
