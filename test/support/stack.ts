/** The local stacks of a mocha process, one without and one with real nodes: real Kubernetes, real Temporal, real workers, each in a directory of its own. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { KubeConfig, Watch } from '@kubernetes/client-node';
import { Client, Connection } from '@temporalio/client';
import { nodesRefusal, stackDown, stackUp, type StackInfo } from '../../local/index.js';
import { runKubectl } from '../../local/kubectl.js';

/** Starting it from a cold page cache, beside everything else that a test run does. */
const START_MS = 180_000;

/** The shared stack as tests use it; its members are there once a `before` hook has run. */
export interface TestStack {
  readonly info: StackInfo;
  /** Administrator. */
  readonly kubeConfig: KubeConfig;
  readonly temporal: Client;
  /** Runs kubectl and resolves with its output; `as` impersonates a user. */
  kubectl(
    args: readonly string[],
    options?: { readonly input?: string; readonly as?: string },
  ): Promise<string>;
  /** Watches a path: every change after it has resolved, and nothing older. `stop` ends it. */
  watch(path: string, onEvent: (type: string, object: unknown) => void): Promise<{ stop(): void }>;
}

interface Running {
  readonly info: StackInfo;
  readonly kubeConfig: KubeConfig;
  readonly connection: Connection;
  readonly temporal: Client;
}

/** Stacks that were started, by the number of their real nodes. */
const running = new Map<number, Promise<Running>>();

/** Suites that have not used such a stack yet, by the number of its real nodes. */
const awaited = new Map<number, number>();

/** Stacks that are on their way out, beside the tests. */
const ending: Promise<void>[] = [];

/**
 * Gives a suite a shared stack, which is started when the first suite needs it and ended, at the latest with the run, when another
 * one is used after the last suite of this one. Called in the body of `describe`.
 * With `nodes`, it is one of so many real nodes, on which pods run; where the machine cannot have them the suite is skipped
 * and the reason said.
 */
export function useStack({ nodes = 0 }: { readonly nodes?: number } = {}): TestStack {
  let current: Running | undefined;
  awaited.set(nodes, (awaited.get(nodes) ?? 0) + 1);
  after('leave the local stack', () => void awaited.set(nodes, (awaited.get(nodes) ?? 0) - 1));
  before('start the local stack', async function () {
    this.timeout(START_MS);
    endUnused(nodes);
    const refusal = nodes > 0 ? nodesRefusal() : undefined;
    if (refusal !== undefined) {
      console.error(`    skipped: ${refusal}`);
      this.skip();
    }
    const starting = running.get(nodes) ?? start(nodes);
    running.set(nodes, starting);
    current = await starting;
  });
  const get = (): Running => {
    if (current === undefined) throw new Error('the stack is used outside of hooks and tests');
    return current;
  };
  return {
    get info() {
      return get().info;
    },
    get kubeConfig() {
      return get().kubeConfig;
    },
    get temporal() {
      return get().temporal;
    },
    kubectl: async (args, { input, as } = {}) =>
      await runKubectl(get().info.kubectl, as === undefined ? args : [...args, `--as=${as}`], {
        ...(input === undefined ? {} : { input }),
      }),
    watch: (path, onEvent) => watch(get(), path, onEvent),
  };
}

/** Ends and removes the shared stacks that suites have started. */
export async function endStacks(): Promise<void> {
  for (const nodes of running.keys()) endSoon(nodes);
  await Promise.all(ending.splice(0));
}

/** An idle stack takes its share of the cores: what no suite to come uses is ended, when nobody tidies up in it any more. */
function endUnused(needed: number): void {
  for (const nodes of running.keys()) if (nodes !== needed && awaited.get(nodes) === 0) endSoon(nodes);
}

function endSoon(nodes: number): void {
  const ended = end(running.get(nodes));
  running.delete(nodes);
  // told by the last hook of the run
  ended.catch(() => undefined);
  ending.push(ended);
}

async function end(starting: Promise<Running> | undefined): Promise<void> {
  const stack = await starting?.catch(() => undefined);
  if (stack === undefined) return;
  await stack.connection.close();
  await stackDown({ directory: stack.info.directory, purge: true }, () => undefined);
}

/** Another process may take a port between the look at it and its use. */
const PORT_TAKEN = /address already in use/u;
const TRIES = 3;

async function start(nodes: number, tries = TRIES): Promise<Running> {
  try {
    return await startOnce(nodes);
  } catch (error) {
    if (tries === 1 || !PORT_TAKEN.test(String(error))) throw error;
    return await start(nodes, tries - 1);
  }
}

async function startOnce(nodes: number): Promise<Running> {
  const directory = mkdtempSync(join(tmpdir(), 'dvflow-test-'));
  const lines: string[] = [];
  process.once('exit', () => endAfter(directory));
  // What a sweep leaves alone for its youth would hold up every test of the sweeper for ten minutes.
  const environment = { DVFLOW_SWEEP_GRACE_MS: '2000' };
  try {
    const info = await stackUp({ directory, ports: 'free', environment, nodes }, (line) => lines.push(line));
    const kubeConfig = new KubeConfig();
    kubeConfig.loadFromFile(info.kubeconfig);
    const connection = await Connection.connect({ address: info.temporalAddress });
    return { info, kubeConfig, connection, temporal: new Client({ connection }) };
  } catch (error) {
    await stackDown({ directory, purge: true }, () => undefined);
    rmSync(directory, { recursive: true, force: true });
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`the local stack did not start: ${reason}\n${lines.join('\n')}`, { cause: error });
  }
}

/** Ends a stack whose test run was interrupted before its last hook: by a process that outlives this one. */
function endAfter(directory: string): void {
  if (!existsSync(join(directory, 'state.json'))) return;
  const main = fileURLToPath(new URL('../../lib/cli/bundled/main.js', import.meta.url));
  const env = { ...process.env, DVFLOW_LOCAL_DIR: directory };
  spawn(process.execPath, [main, 'local', 'down', '--purge'], {
    detached: true,
    stdio: 'ignore',
    env,
  }).unref();
}

async function watch(
  { info, kubeConfig }: Running,
  path: string,
  onEvent: (type: string, object: unknown) => void,
): Promise<{ stop(): void }> {
  // however long the connection takes, what happens meanwhile is told
  const list = await runKubectl(info.kubectl, ['get', '--raw', `${path}?limit=1`]);
  const { metadata } = JSON.parse(list) as { metadata: { resourceVersion: string } };
  let stopped = false;
  // it gives up a watch on which nothing has happened for 30 s; of what a test waits for, nothing may have
  const patient = new Watch(kubeConfig);
  Object.assign(patient, { requestTimeoutMs: 3_600_000 });
  const abort = patient.watch(
    path,
    { resourceVersion: metadata.resourceVersion },
    onEvent,
    (error: unknown) => {
      if (!stopped && error instanceof Error) console.error(`watch of ${path} ended: ${error.message}`);
    },
  );
  return {
    stop: () => {
      stopped = true;
      void abort.then((controller) => controller.abort());
    },
  };
}
