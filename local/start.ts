import { existsSync } from 'node:fs';
import { applyManifests, renderManifests, type Manifests } from './cluster.js';
import { commandFor } from './commands.js';
import { endAll } from './end.js';
import { tokenPath } from './kubeconfigs.js';
import { runKubectl } from './kubectl.js';
import { layout } from './paths.js';
import { isReady, waitUntil } from './probes.js';
import { isAlive, startDetached } from './processes.js';
import { recordProcess, requireState, stackInfo, type StackState } from './state.js';
import type { Log, ProcessName, StackInfo } from './types.js';

/** A cold page cache and two busy cores; a healthy start takes a few seconds. */
export const READY_MS = 120_000;

/** What one start of the stack is about. */
export interface Start {
  readonly directory: string;
  readonly state: StackState;
  readonly signal: AbortSignal;
  readonly log: Log;
  /** Every start that was begun: a clean-up waits for them, or it would miss a process that is just being born. */
  readonly begun: Promise<void>[];
}

/**
 * Starts every process of a stack, as much as possible at once, and resolves when all are ready.
 * @throws after ending everything that was started, when one of them does not come up or the user interrupts
 */
export async function startAll(directory: string, state: StackState, log: Log): Promise<StackInfo> {
  const abort = new AbortController();
  const interrupt = (): void => abort.abort(new Error('interrupted'));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, interrupt);
  const run: Start = { directory, state, signal: abort.signal, log, begun: [] };
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
    await Promise.allSettled(run.begun);
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
  const { kubernetes } = run.state.own;
  const servers = kubernetes ? (['etcd', 'kube-apiserver'] as const) : [];
  const [manifests] = await Promise.all([render(run), ...servers.map((name) => start(run, name))]);
  const clients = kubernetes ? (['kube-controller-manager', 'kube-scheduler'] as const) : [];
  const applied = applyManifests(run.state.kubectl, manifests, run.signal);
  await Promise.all([applied, ...clients.map((name) => start(run, name)), start(run, 'agent')]);
  run.log('manifests of deploy/ applied');
}

async function render({ directory, state, signal }: Start): Promise<Manifests> {
  const temporalNamespace = process.env['TEMPORAL_NAMESPACE'] ?? 'default';
  const { pool } = layout(directory);
  const defaultClass = state.own.kubernetes;
  return await renderManifests(state.kubectl, { pool, temporalNamespace, defaultClass, signal });
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

/** Starts a process, remembers it, and waits until it is ready. */
export async function start(run: Start, name: ProcessName): Promise<void> {
  const ready = startOne(run, name);
  run.begun.push(ready);
  await ready;
}

async function startOne({ directory, state, signal, log }: Start, name: ProcessName): Promise<void> {
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
