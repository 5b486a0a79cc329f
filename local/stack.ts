import { existsSync, rmSync } from 'node:fs';
import { commandFor } from './commands.js';
import { applyManifests } from './cluster.js';
import { tokenPath } from './kubeconfigs.js';
import { runKubectl } from './kubectl.js';
import { tryLock, type Release } from './lock.js';
import { layout, stateDirectory } from './paths.js';
import { prepareStack } from './prepare.js';
import { isReady, waitUntil } from './probes.js';
import { endProcess, isAlive, startDetached, type ProcessRecord } from './processes.js';
import { readState, recordProcess, stackInfo, type StackState } from './state.js';
import type { Log, ProcessName, StackInfo, StackOptions } from './types.js';

/** A cold page cache and two busy cores; a healthy start takes a few seconds. */
const READY_MS = 120_000;

/** Processes that end together, in the order in which that happens: what uses something ends before it. */
const ENDING: readonly (readonly ProcessName[])[] = [
  ['worker-control', 'worker-control-2', 'worker-node'],
  ['agent', 'kube-scheduler', 'kube-controller-manager', 'temporal'],
  ['kube-apiserver'],
  ['etcd'],
];

/** Time for a process to end by itself before it is killed; workers hand back what they are doing. */
const PATIENCE_MS = 15_000;

/** What one start of the stack is about. */
interface Start {
  readonly directory: string;
  readonly state: StackState;
  readonly signal: AbortSignal;
  readonly log: Log;
}

/**
 * Starts the local stack and resolves when all of it is ready; a stack that runs already is left as it is, one of which
 * something has died is started anew on its data. A start that fails ends everything that it has started.
 * @throws when a port is taken, a tool is missing, a process does not come up, or another start or stop is under way
 */
export async function stackUp(options: StackOptions, log: Log): Promise<StackInfo> {
  const directory = options.directory ?? stateDirectory();
  return await locked(directory, async () => {
    const before = readState(directory);
    if (before !== undefined && (await isComplete(directory, before, options.workers ?? true))) {
      log(`the local stack in ${directory} is already running`);
      return stackInfo(directory, before);
    }
    if (before !== undefined) await endLeftovers(directory, before, log);
    const state = await prepareStack(directory, options, log);
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
    if (!purge) return;
    rmSync(directory, { recursive: true, force: true });
    log(`removed ${directory}`);
  });
}

/** Starts one process of a running stack again, or for the first time, and waits until it is ready. */
export async function startProcess(info: StackInfo, name: ProcessName): Promise<void> {
  const state = requireState(info.directory);
  const running = state.processes[name];
  if (running !== undefined && isAlive(running)) return;
  await start(
    { directory: info.directory, state, signal: AbortSignal.timeout(READY_MS), log: () => undefined },
    name,
  );
}

/** Ends one process of a running stack gracefully, starts it again and waits until it is ready. */
export async function restartProcess(info: StackInfo, name: ProcessName): Promise<void> {
  const running = requireState(info.directory).processes[name];
  if (running !== undefined) await endProcess(running, PATIENCE_MS);
  await startProcess(info, name);
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

/** Whether every process of the stack lives and answers. */
async function isComplete(directory: string, state: StackState, workers: boolean): Promise<boolean> {
  const names = processNames({ ...state, workers: state.workers || workers });
  const ready = names.map(async (name) => {
    const record = state.processes[name];
    return record !== undefined && isAlive(record) && (await isReady(directory, state.ports, name));
  });
  return (await Promise.all(ready)).every(Boolean);
}

/** Processes that a stack of this shape runs. */
export function processNames({ own, workers }: Pick<StackState, 'own' | 'workers'>): readonly ProcessName[] {
  return [
    ...(own.kubernetes
      ? (['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'] as const)
      : []),
    ...(own.temporal ? (['temporal'] as const) : []),
    'agent',
    ...(workers ? (['worker-control', 'worker-node'] as const) : []),
  ];
}

async function endLeftovers(directory: string, state: StackState, log: Log): Promise<void> {
  const entries = Object.entries(state.processes) as [ProcessName, ProcessRecord][];
  const alive = entries.filter(([, record]) => isAlive(record)).map(([name]) => name);
  const dead = entries.filter(([, record]) => !isAlive(record)).map(([name]) => name);
  if (entries.length > 0) {
    const stopped =
      dead.length === 0
        ? 'not all of it answers'
        : `${dead.join(', ')} ${dead.length > 1 ? 'have' : 'has'} ended`;
    log(
      `the local stack in ${directory} runs in part (${stopped}): starting it anew${alive.length > 0 ? '' : ' on its data'}`,
    );
  }
  await endAll(directory);
}

async function startAll(directory: string, state: StackState, log: Log): Promise<StackInfo> {
  const abort = new AbortController();
  const interrupt = (): void => abort.abort(new Error('interrupted'));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, interrupt);
  const run: Start = { directory, state, signal: abort.signal, log };
  const guarded = async (work: Promise<void>): Promise<void> =>
    work.catch((error: unknown) => {
      abort.abort(error);
      throw error;
    });
  try {
    const parts = [guarded(startTemporal(run)), guarded(startCluster(run))];
    const failed = (await Promise.allSettled(parts)).some(({ status }) => status === 'rejected');
    if (failed) throw abort.signal.reason;
    const last = [nodeReady(run), ...workerNames(state).map((name) => startWorker(run, name))].map(guarded);
    if ((await Promise.allSettled(last)).some(({ status }) => status === 'rejected'))
      throw abort.signal.reason;
    return stackInfo(directory, requireState(directory));
  } catch (error) {
    await endAll(directory);
    throw error;
  } finally {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, interrupt);
  }
}

function workerNames({ workers }: StackState): readonly ProcessName[] {
  return workers ? ['worker-control', 'worker-node'] : [];
}

async function startTemporal(run: Start): Promise<void> {
  if (run.state.own.temporal) await start(run, 'temporal');
}

async function startCluster(run: Start): Promise<void> {
  if (run.state.own.kubernetes) {
    const etcd = start(run, 'etcd');
    await Promise.all([etcd, start(run, 'kube-apiserver')]);
  }
  const components = run.state.own.kubernetes ? (['kube-controller-manager', 'kube-scheduler'] as const) : [];
  await Promise.all([...components.map((name) => start(run, name)), start(run, 'agent'), apply(run)]);
}

/** A new node is tainted until the controller manager has seen it Ready; workers need not wait for that. */
async function nodeReady(run: Start): Promise<void> {
  const wait = { what: `node ${run.state.node}`, timeoutMs: READY_MS, signal: run.signal };
  await waitUntil(() => nodeIsReady(run), wait);
  run.log(`node ${run.state.node} ready`);
}

async function startWorker(run: Start, name: ProcessName): Promise<void> {
  const token = tokenPath(run.directory, name === 'worker-node' ? 'node' : 'control');
  const wait = { what: `token of ${name}`, timeoutMs: READY_MS, signal: run.signal };
  await waitUntil(async () => existsSync(token), wait);
  await start(run, name);
}

async function apply({ directory, state, signal, log }: Start): Promise<void> {
  const temporalNamespace = process.env['TEMPORAL_NAMESPACE'] ?? 'default';
  await applyManifests(state.kubectl, { pool: layout(directory).pool, temporalNamespace, signal });
  log('manifests of deploy/ applied');
}

/** Starts a process, remembers it, and waits until it is ready. */
async function start({ directory, state, signal, log }: Start, name: ProcessName): Promise<void> {
  signal.throwIfAborted();
  const began = Date.now();
  const record = await startDetached(commandFor(directory, state, name));
  recordProcess(directory, name, record);
  const wait = { what: name, timeoutMs: READY_MS, process: record, signal };
  await waitUntil(async () => isAlive(record) && (await isReady(directory, state.ports, name)), wait);
  log(`${name} ready after ${((Date.now() - began) / 1000).toFixed(1)} s`);
}

/** Whether the agent's node is Ready and free of taints. */
async function nodeIsReady({ state, signal }: Start): Promise<boolean> {
  const text = await runKubectl(
    state.kubectl,
    ['get', 'node', state.node, '--ignore-not-found', '-o', 'json'],
    { signal },
  );
  if (text === '') return false;
  const node = JSON.parse(text) as {
    spec: { taints?: readonly unknown[] };
    status: { conditions?: readonly { type: string; status: string }[] };
  };
  const ready =
    node.status.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
  return ready && (node.spec.taints ?? []).length === 0;
}

async function endAll(directory: string): Promise<void> {
  for (const stage of ENDING) await Promise.all(stage.map((name) => endOne(directory, name)));
}

async function endOne(directory: string, name: ProcessName): Promise<void> {
  const record = requireState(directory).processes[name];
  if (record === undefined) return;
  await endProcess(record, PATIENCE_MS);
  recordProcess(directory, name, undefined);
}

function requireState(directory: string): StackState {
  const state = readState(directory);
  if (state === undefined) throw new Error(`${directory} holds no local stack`);
  return state;
}
