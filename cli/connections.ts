import { existsSync, readFileSync } from 'node:fs';
import { delimiter, dirname, resolve } from 'node:path';
import type { KubeConfig } from '@kubernetes/client-node';
import type { Client } from '@temporalio/client';
import type { ClientConnectConfig } from '@temporalio/envconfig';
import type { StackInfo } from '../local/types.js';
import { CliError, EXIT } from './errors.js';
import { createDialling } from '../client/tries.js';

/** Temporal, for as long as one command takes. */
export interface TemporalAccess {
  readonly client: Client;
  /** `host:port` that was connected to. */
  readonly address: string;
  readonly close: () => Promise<void>;
}

/** How long a server may take to answer the first call, in ms: somebody waits at a prompt. */
const CONNECT_TIMEOUT_MS = 5_000;

/** The local stack of this user, if any of it runs. */
export async function runningStack(): Promise<StackInfo | undefined> {
  const { stackStatus } = await import('../local/index.js');
  return (await stackStatus({})).info;
}

/**
 * The running local stack, where the user has named neither a cluster nor a Temporal server: whoever names one of them means it.
 */
export async function defaultStack(env: NodeJS.ProcessEnv = process.env): Promise<StackInfo | undefined> {
  return env.KUBECONFIG || env.TEMPORAL_ADDRESS || env.TEMPORAL_PROFILE ? undefined : await runningStack();
}

/** The running local stack where it is the cluster of this command: by default, or because `KUBECONFIG` is its own (`dvflow local env`). */
export async function stackInUse(env: NodeJS.ProcessEnv = process.env): Promise<StackInfo | undefined> {
  if (!env.KUBECONFIG) return await defaultStack(env);
  const stack = await runningStack();
  return stack?.kubeconfig === resolve(env.KUBECONFIG) ? stack : undefined;
}

/** Connects as Temporal's own variables and profiles say, else to the local stack; or to the stack that is given. */
export async function connectTemporal(given?: StackInfo): Promise<TemporalAccess> {
  const [{ Client, Connection }, stack] = await Promise.all([
    import('@temporalio/client'),
    given ?? defaultStack(),
  ]);
  const { connectionOptions, namespace } = await connectConfig(stack);
  const address = stack?.temporalAddress ?? connectionOptions.address ?? '127.0.0.1:7233';
  const { options, close } = await createDialling(connectionOptions);
  try {
    const connection = await Connection.connect({
      address,
      connectTimeout: CONNECT_TIMEOUT_MS,
      ...options,
    });
    return {
      address,
      client: new Client({ connection, ...(namespace ? { namespace } : {}) }),
      close: () => close(connection),
    };
  } catch (error) {
    const hint = 'set TEMPORAL_ADDRESS, or start a local stack: dvflow local up';
    throw new CliError(`Temporal does not answer at ${address}: ${hint}`, EXIT.unreachable, { cause: error });
  }
}

/** A stack's own server has neither the namespace nor the keys of a profile, which are meant for another one. */
async function connectConfig(stack: StackInfo | undefined): Promise<ClientConnectConfig> {
  const [{ loadClientConnectConfig }, { ownsTemporal }] = await Promise.all([
    import('@temporalio/envconfig'),
    import('../local/environment.js'),
  ]);
  return stack && ownsTemporal(stack) ? { connectionOptions: {} } : loadClientConnectConfig();
}

/** Runs one command with Temporal and closes the connection after it. */
export async function withTemporal<T>(work: (client: Client) => Promise<T>, stack?: StackInfo): Promise<T> {
  const { client, close } = await connectTemporal(stack);
  try {
    return await work(client);
  } finally {
    await close();
  }
}

/** The cluster that KUBECONFIG (or kubectl's default) names, else the local stack's; or that of the stack that is given. */
export async function loadKubernetes(given?: StackInfo): Promise<KubeConfig> {
  const { KubeConfig } = await import('../activities/kubernetes/library.js');
  const stack = given ?? (await defaultStack());
  const kubeConfig = new KubeConfig();
  try {
    if (stack) kubeConfig.loadFromFile(stack.kubeconfig);
    else loadNamed(kubeConfig, () => new KubeConfig());
  } catch (error) {
    throw new CliError(`kubeconfig: ${(error as Error).message}`, EXIT.usage, { cause: error });
  }
  const server = kubeConfig.getCurrentCluster()?.server;
  // What client-node makes up when it finds nothing.
  if (server === undefined || server === 'http://localhost:8080') {
    throw new CliError(
      'no cluster: set KUBECONFIG, or start a local stack: dvflow local up',
      EXIT.unreachable,
    );
  }
  return kubeConfig;
}

/** As kubectl does: members of a list that are not there, or are empty, are passed over, and the first one that names a thing decides. */
function loadNamed(kubeConfig: KubeConfig, empty: () => KubeConfig): void {
  const named = (process.env.KUBECONFIG ?? '').split(delimiter).filter((file) => file !== '');
  if (named.length === 0) return kubeConfig.loadFromDefault();
  const there = named.filter((file) => existsSync(file));
  for (const file of there.length === 0 ? named : there) {
    // once: it may be a pipe
    const text = readFileSync(file, 'utf8');
    if (text.trim() === '') continue;
    const other = empty();
    other.loadFromString(text);
    other.makePathsAbsolute(dirname(file));
    // what is named a second time ends the merge of client-node
    other.clusters = unknownOf(other.clusters, kubeConfig.clusters);
    other.users = unknownOf(other.users, kubeConfig.users);
    other.contexts = unknownOf(other.contexts, kubeConfig.contexts);
    kubeConfig.mergeConfig(other, Boolean(kubeConfig.currentContext));
  }
}

/** Those with a name that none of the others has. */
function unknownOf<T extends { readonly name: string }>(found: readonly T[], known: readonly T[]): T[] {
  const names = new Set(known.map(({ name }) => name));
  return found.filter(({ name }) => !names.has(name));
}
