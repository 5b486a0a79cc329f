import { existsSync } from 'node:fs';
import { applyManifests, applyObjects, renderManifests, type Manifests } from './cluster.js';
import { commandFor } from './commands.js';
import { endAll } from './end.js';
import { gatewayRegistration } from './gateway.js';
import { tokenPath, type WORKER_ACCOUNTS } from './kubeconfigs.js';
import { runKubectl, type KubectlOptions } from './kubectl.js';
import { createNode, importImages, prepareImages } from './nodes/start.js';
import { layout } from './paths.js';
import { isReady, waitUntil } from './probes.js';
import { isAlive, STACK_MARK, startDetached } from './processes.js';
import { recordProcess, requireState, stackInfo, workerNames, type StackState } from './state.js';
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
    const parts = [startTemporal(run), startCluster(run), startRuntimes(run)].map(guarded);
    const failed = (await Promise.allSettled(parts)).some(({ status }) => status === 'rejected');
    if (failed) throw abort.signal.reason;
    const last = [startNodes(run), ...workersOf(state).map((name) => startWorker(run, name))].map(guarded);
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

function workersOf({ workers, nodes }: StackState): readonly ProcessName[] {
  return workers ? workerNames(nodes) : [];
}

/** What a kubelet needs on its machine before it starts. */
async function startRuntimes(run: Start): Promise<void> {
  const { directory, state } = run;
  if (state.nodes.length === 0) return;
  const images = await prepareImages(directory);
  await Promise.all(
    state.nodes.map(async (node) => {
      await createNode(node);
      const name = `containerd-${node.name}` as const;
      await start(run, name);
      await importImages(requireState(directory).processes[name]?.pid ?? 0, images);
    }),
  );
}

async function startNodes(run: Start): Promise<void> {
  const { nodes, node } = run.state;
  if (nodes.length === 0) return await nodeReady(run, node, 0);
  // What a cluster that was started again remembers of its nodes is from before.
  const since = Date.now();
  await Promise.all(nodes.map(({ name }) => start(run, `kubelet-${name}`)));
  await Promise.all(nodes.map(({ name }) => nodeReady(run, name, since)));
}

async function startTemporal(run: Start): Promise<void> {
  if (run.state.own.temporal) await start(run, 'temporal');
}

async function startCluster(run: Start): Promise<void> {
  const { kubernetes } = run.state.own;
  const servers = kubernetes ? (['etcd', 'kube-apiserver'] as const) : [];
  const [manifests] = await Promise.all([render(run), ...servers.map((name) => start(run, name))]);
  const clients = kubernetes ? (['kube-controller-manager', 'kube-scheduler'] as const) : [];
  const applied = applyManifests(run.state.kubectl, manifests, callOf(run));
  await Promise.all([applied, ...clients.map((name) => start(run, name)), start(run, 'agent')]);
  run.log('manifests of deploy/ applied');
}

async function render(run: Start): Promise<Manifests> {
  const { directory, state } = run;
  const temporalNamespace = process.env['TEMPORAL_NAMESPACE'] ?? 'default';
  const { pool } = layout(directory);
  const defaultClass = state.own.kubernetes;
  return await renderManifests(state.kubectl, { pool, temporalNamespace, defaultClass }, callOf(run));
}

/** A kubectl that outlives a killed start is found by the mark. */
function callOf({ directory, signal }: Start): Pick<KubectlOptions, 'signal' | 'env'> {
  return { signal, env: { [STACK_MARK]: directory } };
}

/** A new node is tainted until the controller manager has seen it Ready; workers need not wait for that. */
async function nodeReady(run: Start, node: string, since: number): Promise<void> {
  const wait = { what: `node ${node}`, timeoutMs: READY_MS, signal: run.signal };
  await waitUntil(() => nodeIsReady(run, node, since), wait);
  run.log(`node ${node} ready`);
}

async function startWorker(run: Start, name: ProcessName): Promise<void> {
  const token = tokenPath(run.directory, roleOf(name));
  const wait = { what: `token of ${name}`, timeoutMs: READY_MS, signal: run.signal };
  await waitUntil(async () => existsSync(token), wait);
  await start(run, name);
  if (name === 'worker-gateway') await registerGateway(run);
}

/** Whose token a worker has; that of a real node is handed over like the stand-in's. */
function roleOf(name: ProcessName): keyof typeof WORKER_ACCOUNTS {
  if (name === 'worker-gateway') return 'gateway';
  return name.startsWith('worker-control') ? 'control' : 'node';
}

/** An API that is registered before it answers holds up whoever asks which APIs there are. */
async function registerGateway(run: Start): Promise<void> {
  const { directory, state } = run;
  if (!state.own.kubernetes) return;
  await applyObjects(state.kubectl, gatewayRegistration(directory, state.ports), callOf(run));
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
  await waitUntil(
    async () => isAlive(record) && (await isReady(directory, requireState(directory), name)),
    wait,
  );
  log(`${name} ready after ${((Date.now() - began) / 1000).toFixed(1)} s`);
}

/** Whether a node is Ready, has said so since a time, and is free of taints. */
async function nodeIsReady(run: Start, name: string, since: number): Promise<boolean> {
  const args = ['get', 'node', name, '--ignore-not-found', '-o', 'json'];
  const text = await runKubectl(run.state.kubectl, args, callOf(run));
  if (text === '') return false;
  const node = JSON.parse(text) as {
    spec: { taints?: readonly unknown[] };
    status: { conditions?: readonly { type: string; status: string; lastHeartbeatTime: string }[] };
  };
  const ready = node.status.conditions?.find(({ type, status }) => type === 'Ready' && status === 'True');
  // The API server keeps whole seconds.
  const said = ready === undefined ? 0 : Date.parse(ready.lastHeartbeatTime) + 1_000;
  return ready !== undefined && said > since && (node.spec.taints ?? []).length === 0;
}
