import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { Runtime, type Logger, type Worker } from '@temporalio/worker';
import { loadKubeConfig } from '../activities/kubernetes/client.js';
import { readConfig, type WorkerConfig } from './config.js';
import {
  connectTemporal,
  reachTemporal,
  requireSearchAttributes,
  type TemporalAccess,
} from './connection.js';
import { serveHealth } from './health.js';
import { createLogger, installRuntime } from './logging.js';
import { createMetrics, startMetrics, type Metrics } from './metrics/index.js';

/** The roles of `design.md` §3 that this release has. */
export type Role = 'control' | 'node' | 'gateway';

const SIGNALS = ['SIGTERM', 'SIGINT'] as const;

/** What a role runs besides its Temporal workers. */
interface RunningRole {
  readonly workers: readonly Worker[];
  ready(): boolean;
  stop(): Promise<void>;
  /** Resolves when a role without workers is told to end. */
  readonly ended?: Promise<void>;
  /** Ends its connection to Temporal, after everything else. */
  disconnect?(): Promise<void>;
}

/**
 * Runs one role until SIGTERM or SIGINT, then drains: transfers write their resume record and are taken over by the next worker.
 * @throws Error before anything is served, when the configuration, Temporal's search attributes or Kubernetes' address are wrong
 */
export async function runWorker(role: Role): Promise<void> {
  const told = toldToEnd();
  const config = readConfig();
  const logger = createLogger(config.logLevel, role === 'node' ? { role, node: config.nodeName } : { role });
  installRuntime(logger, config.metricsAddress);
  let running: RunningRole | undefined;
  const health = config.healthAddress
    ? await serveHealth(config.healthAddress, () => running?.ready() ?? false)
    : undefined;
  const ending = new AbortController();
  if (role === 'node') await keepDevices(config, logger, ending.signal);
  try {
    running = await startRole(role, config, { logger, told });
    if (!running) return;
    logger.info('worker started', { role });
    await Promise.all([...running.workers.map((worker) => worker.run()), running.ended]);
  } finally {
    ending.abort();
    await running?.stop();
    health?.close();
    await running?.disconnect?.();
  }
}

/** `undefined` where the worker is told to end before Temporal, and for control Kubernetes, has answered; a gateway waits for no answer. */
async function startRole(
  role: Role,
  config: WorkerConfig,
  { logger, told }: { readonly logger: Logger; readonly told: AbortSignal },
): Promise<RunningRole | undefined> {
  if (role === 'gateway') return await startGatewayRole(config, { logger, metrics: metricsOf(role), told });
  const access = await connectPatiently(logger, told);
  if (!access) return undefined;
  const disconnect = (): Promise<void> => access.connection.close();
  try {
    // a connection that fails takes the runtime with it, and all that was made of it
    const started = await START[role](config, access, { logger, metrics: metricsOf(role), told });
    if (started) return { ...started, disconnect };
    await disconnect();
    return undefined;
  } catch (error) {
    await disconnect();
    throw error;
  }
}

function metricsOf(role: Role): Metrics {
  const metrics = createMetrics(Runtime.instance().metricMeter);
  startMetrics(metrics, role);
  return metrics;
}

/**
 * Aborted by the first SIGTERM or SIGINT. Temporal's runtime takes it from the start as well, and has only workers to tell: those
 * that run, and those that run later.
 */
function toldToEnd(): AbortSignal {
  const told = new AbortController();
  const tell = (): void => {
    // the next one ends the process where it stands
    for (const signal of SIGNALS) process.off(signal, tell);
    told.abort();
  };
  for (const signal of SIGNALS) process.on(signal, tell);
  return told.signal;
}

/** First of all: a pod of this node may be waiting for its device, whatever has become of Temporal. */
async function keepDevices(config: WorkerConfig, logger: Logger, signal: AbortSignal): Promise<void> {
  const { keepLoopVolumes } = await import('./loop-volumes.js');
  const { memoryIn } = await import('../activities/node/pool-memory.js');
  const { nodeName: node, stateDirectory, deviceDirectory } = config;
  const memory = memoryIn(stateDirectory);
  await keepLoopVolumes({ node, stateDirectory, deviceDirectory, memory }, logger, signal);
}

/**
 * Temporal may start after its workers; a wrong address shows in the log, not in a crash loop. `undefined` once the worker is told to
 * end: a server that is silent is waited for no longer either.
 */
async function connectPatiently(logger: Logger, told: AbortSignal): Promise<TemporalAccess | undefined> {
  const ended = aborted(told);
  for (let wait = 500; !told.aborted; wait = Math.min(wait * 2, 10_000)) {
    try {
      return await Promise.race([connectTemporal(), ended]);
    } catch (error) {
      logger.warn('Temporal does not answer yet', { error, retryInMs: wait });
      await pause(wait, undefined, { signal: told }).catch(() => undefined);
    }
  }
  return undefined;
}

async function aborted(signal: AbortSignal): Promise<undefined> {
  if (!signal.aborted) await once(signal, 'abort');
  return undefined;
}

async function startControlRole(
  config: WorkerConfig,
  access: TemporalAccess,
  {
    logger,
    metrics,
    told,
  }: { readonly logger: Logger; readonly metrics: Metrics; readonly told: AbortSignal },
): Promise<RunningRole | undefined> {
  await requireSearchAttributes(access);
  const kubeConfig = loadKubeConfig(config.kubeconfig);
  const [{ createControlWorker }, { startControl }, { claimTemporalNamespace }] = await Promise.all([
    import('./control/worker.js'),
    import('./control/index.js'),
    import('./control/cluster-identity.js'),
  ]);
  const { client, namespace: temporalNamespace } = access;
  // before anything polls, watches or cancels
  const claim = { kubeConfig, client, temporalNamespace, take: config.takeNamespace, logger };
  if (!(await claimTemporalNamespace(claim, told))) return undefined;
  const worker = await createControlWorker(config, access, kubeConfig, metrics);
  const watching = await startControl({
    kubeConfig,
    client: access.client,
    logger,
    temporalNamespace: access.namespace,
    metrics,
    uploadProxyUrl: config.uploadProxyUrl,
    tlsSecrets: config.tlsSecrets,
  });
  return {
    workers: [worker],
    ready: () => worker.getState() === 'RUNNING' && watching.ready(),
    stop: () => watching.stop(),
  };
}

async function startNodeRole(
  config: WorkerConfig,
  access: TemporalAccess,
  { logger, metrics }: { logger: Logger; metrics: Metrics },
): Promise<RunningRole> {
  const [{ createNodeWorkers }, { announceNode }, { startDataPort }] = await Promise.all([
    import('./node.js'),
    import('./node-start.js'),
    import('./data-port/server.js'),
  ]);
  const dataPort = await startDataPort({
    address: config.dataPortAddress,
    advertisedHost: config.dataPortHost,
    tlsDirectory: config.tlsDirectory,
    logger,
  });
  const kubeConfig = loadKubeConfig(config.kubeconfig);
  const workers = await createNodeWorkers(config, access, { kubeConfig, metrics, logger, dataPort });
  const stopping = new AbortController();
  void announceNode({ client: access.client, node: config.nodeName, logger }, stopping.signal);
  return {
    workers,
    ready: () => workers.every((worker) => worker.getState() === 'RUNNING'),
    stop: async () => {
      stopping.abort();
      await dataPort.close();
    },
  };
}

/**
 * No Temporal worker: what it asks of workflows it asks as a client. It serves without Temporal as well: an API of Kubernetes that does
 * not answer keeps namespaces from going.
 */
async function startGatewayRole(
  config: WorkerConfig,
  { logger, metrics, told }: { logger: Logger; metrics: Metrics; told: AbortSignal },
): Promise<RunningRole> {
  const { gatewayAddress: address, tlsDirectory } = config;
  if (!address || !tlsDirectory) {
    throw new Error('configuration: the gateway needs DVFLOW_GATEWAY_ADDRESS and DVFLOW_TLS_DIRECTORY');
  }
  const { startGateway } = await import('./gateway/index.js');
  const { client, close: disconnect } = await reachTemporal();
  const gateway = startGateway({
    kubeConfig: loadKubeConfig(config.kubeconfig),
    client,
    logger,
    metrics,
    address,
    tlsDirectory,
    servingTlsDirectory: config.gatewayTlsDirectory,
    uploadSlots: config.uploadSlots,
  });
  return {
    workers: [],
    ready: () => gateway.ready(),
    stop: async () => await gateway.stop(),
    ended: aborted(told),
    disconnect,
  };
}

/** How each role with a worker is started. */
const START = {
  control: startControlRole,
  node: startNodeRole,
} satisfies Record<Exclude<Role, 'gateway'>, unknown>;
