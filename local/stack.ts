import { readdirSync, rmdirSync, rmSync } from 'node:fs';
import { ensureCertificateDirectory } from '../workers/pki/directory.js';
import { endAll, patienceMs } from './end.js';
import { detachLoopDevices, unlinkDevices } from './loop-devices.js';
import { tryLock, type Release } from './lock.js';
import { layout, stateDirectory } from './paths.js';
import { prepareStack } from './prepare.js';
import { isReady } from './probes.js';
import { endProcess, isAlive, type ProcessRecord } from './processes.js';
import { READY_MS, start, startAll } from './start.js';
import { processNames, readState, requireState, stackInfo, type StackState } from './state.js';
import type { Log, ProcessName, StackInfo, StackOptions } from './types.js';

/**
 * Starts the local stack and resolves when all of it is ready; a stack that runs already is left as it is, but for certificates of data
 * ports that are near their end; one of which something has died is started anew on its data. A start that fails ends everything that it has started.
 * @throws when a port is taken, a tool is missing, a process does not come up, or another start or stop is under way
 */
export async function stackUp(options: StackOptions, log: Log): Promise<StackInfo> {
  const directory = options.directory ?? stateDirectory();
  return await locked(directory, async () => {
    const before = readState(directory);
    const wanted = { workers: options.workers ?? true, nodes: options.nodes ?? before?.nodes.length ?? 0 };
    if (before !== undefined && (await isComplete(directory, before, wanted))) {
      // they last three months, and a stack may run for longer; its workers read what changes
      await ensureCertificateDirectory(layout(directory).dataPortPki);
      log(`the local stack in ${directory} is already running`);
      return stackInfo(directory, before);
    }
    if (before !== undefined) await endLeftovers(directory, before, log);
    const state = await prepareStack(directory, { ...options, nodes: wanted.nodes }, log);
    return await startAll(directory, state, log);
  });
}

/**
 * Ends exactly the processes that the stack started, and leaves its data; with `purge`, removes that too.
 * @throws when another start or stop of this stack is under way
 */
export async function stackDown(
  { directory = stateDirectory(), purge = false }: { readonly directory?: string; readonly purge?: boolean },
  log: Log,
): Promise<void> {
  await locked(directory, async () => {
    const state = readState(directory);
    const names = state === undefined ? [] : Object.keys(state.processes);
    log(names.length === 0 ? `no local stack runs in ${directory}` : `ending ${names.join(', ')}`);
    if (state !== undefined) await endAll(directory);
    if (state !== undefined) detachLoopDevices(directory, log);
    if (purge && state !== undefined) removeData(directory, log);
  });
}

/** Starts one process of a running stack again, or for the first time, and waits until it is ready. */
export async function startProcess(info: StackInfo, name: ProcessName): Promise<void> {
  const state = requireState(info.directory);
  const running = state.processes[name];
  if (running !== undefined) {
    if (isAlive(running)) return;
    await endProcess(running, 0); // what a killed process has left in its session
  }
  await start(
    {
      directory: info.directory,
      state,
      signal: AbortSignal.timeout(READY_MS),
      log: () => undefined,
      begun: [],
    },
    name,
  );
}

/** Ends one process of a running stack gracefully, starts it again and waits until it is ready. */
export async function restartProcess(info: StackInfo, name: ProcessName): Promise<void> {
  const running = requireState(info.directory).processes[name];
  if (running !== undefined) await endProcess(running, patienceMs(name));
  await startProcess(info, name);
}

/** Removes what the stack has made; a directory that holds something else besides stays. */
function removeData(directory: string, log: Log): void {
  for (const path of Object.values(layout(directory))) rmSync(path, { recursive: true, force: true });
  if (readdirSync(directory).length === 0) rmdirSync(directory);
  log(`removed the data in ${directory}`);
}

/** Takes the lock of a stack for the time of the work. */
async function locked<T>(directory: string, work: () => Promise<T>): Promise<T> {
  const release: Release | undefined = await tryLock(directory);
  if (release === undefined) {
    throw new Error(
      `another start or stop of the local stack in ${directory} is under way: wait for it and try again`,
    );
  }
  try {
    return await work();
  } finally {
    await release();
  }
}

/** Whether every process of the stack lives and answers, and it has the real nodes that are wanted. */
async function isComplete(
  directory: string,
  state: StackState,
  { workers, nodes }: { readonly workers: boolean; readonly nodes: number },
): Promise<boolean> {
  if (state.nodes.length !== nodes) return false;
  const names = processNames({ ...state, workers: state.workers || workers });
  const ready = names.map(async (name) => {
    const record = state.processes[name];
    return record !== undefined && isAlive(record) && (await isReady(directory, state, name));
  });
  return (await Promise.all(ready)).every(Boolean);
}

/** Ends what is left of a stack of which something has died, so that the start that follows meets none of it. */
async function endLeftovers(directory: string, state: StackState, log: Log): Promise<void> {
  const entries = Object.entries(state.processes) as [ProcessName, ProcessRecord][];
  const dead = entries.filter(([, record]) => !isAlive(record)).map(([name]) => name);
  if (entries.length > 0) {
    const reason = dead.length > 0 ? `ended: ${dead.join(', ')}` : 'not all that was asked for is ready';
    log(`the local stack in ${directory} runs only in part (${reason}): starting it anew on its data`);
  }
  await endAll(directory);
  unlinkDevices(directory);
}
