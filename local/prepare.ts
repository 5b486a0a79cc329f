import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { parse } from 'yaml';
import { ensureCertificateDirectory } from '../workers/pki/directory.js';
import { ensureCertificates } from './certificates.js';
import {
  adminKubeconfig,
  foreignEnvironment,
  refuseWithoutConsent,
  temporalProfile,
  type Foreign,
} from './environment.js';
import {
  kubeconfigPath,
  ownCluster,
  writeControlPlaneKubeconfigs,
  writeWorkerKubeconfigs,
} from './kubeconfigs.js';
import { runKubectl } from './kubectl.js';
import { planNodes } from './nodes/plan.js';
import { prepareNodes } from './nodes/prepare.js';
import { nodesRefusal } from './nodes/requirements.js';
import type { LocalNode } from './nodes/types.js';
import { layout } from './paths.js';
import { DEFAULT_PORTS, freePorts, portConflicts } from './ports.js';
import { createDirectories, writeState, type StackState } from './state.js';
import { findTools, type Tools } from './tools.js';
import type { Log, Ports, StackOptions } from './types.js';

/**
 * Writes everything that the processes read when they start: certificates, kubeconfigs, and the state of a stack in
 * which nothing runs yet.
 * @throws when a tool is missing, or a port is taken
 */
export async function prepareStack(directory: string, options: StackOptions, log: Log): Promise<StackState> {
  const foreign = foreignEnvironment(directory);
  const own = {
    kubernetes: foreign.kubeconfig === undefined,
    temporal: foreign.temporalAddress === undefined,
  };
  requireConsent(foreign, log);
  const nodes = planNodes(directory, options.nodes ?? 0);
  if (nodes.length > 0) requireNodes(own);
  const tools = await findTools({ ...own, nodes: nodes.length > 0 }, log);
  const ports = options.ports === 'free' ? await freePorts() : DEFAULT_PORTS;
  const workers = options.workers ?? true;
  await refuseConflicts(ports, { ...own, workers, nodes });
  createDirectories(directory);
  await ensureCertificateDirectory(layout(directory).dataPortPki);
  const kubeconfig = own.kubernetes
    ? await prepareOwnCluster(directory, ports, nodes)
    : await prepareForeignCluster(directory, tools, foreign.kubeconfig ?? '');
  rmSync(layout(directory).tokens, { recursive: true, force: true });
  mkdirSync(layout(directory).tokens, { mode: 0o700 });
  const state: StackState = {
    ports,
    node: nodes[0]?.name ?? hostname().toLowerCase(),
    nodes,
    kubeconfig,
    temporalAddress: foreign.temporalAddress ?? `127.0.0.1:${ports.temporal}`,
    uiUrl: own.temporal ? `http://127.0.0.1:${ports.temporalUi}` : '',
    kubectl: [...tools.kubectl, `--kubeconfig=${kubeconfig}`],
    tools,
    own,
    workers,
    environment: options.environment ?? {},
    processes: {},
  };
  writeState(directory, state);
  writeFileSync(layout(directory).temporalProfile, temporalProfile(state.temporalAddress));
  return state;
}

/** A Temporal server of this machine is used as it is; another's gets workers, and a cluster gets objects, so their owner has to say yes. */
function requireConsent(foreign: Foreign, log: Log): void {
  refuseWithoutConsent(foreign);
  const { kubeconfig, temporalAddress } = foreign;
  if (temporalAddress !== undefined) log(`using the Temporal server ${temporalAddress} of TEMPORAL_ADDRESS`);
  if (kubeconfig !== undefined) log(`using the cluster of KUBECONFIG=${kubeconfig}`);
}

/** @throws Error with what this machine lacks, or says that somebody else's cluster has nodes of its own */
function requireNodes({ kubernetes }: { readonly kubernetes: boolean }): void {
  if (!kubernetes) throw new Error('real nodes (--nodes) belong to a cluster of the stack: unset KUBECONFIG');
  const refusal = nodesRefusal();
  if (refusal !== undefined) throw new Error(refusal);
}

async function refuseConflicts(
  ports: Ports,
  uses: {
    readonly kubernetes: boolean;
    readonly temporal: boolean;
    readonly workers: boolean;
    readonly nodes: readonly LocalNode[];
  },
): Promise<void> {
  const wanted = [
    ...(uses.kubernetes
      ? (['etcd', 'etcdPeer', 'apiserver', 'controllerManager', 'scheduler'] as const)
      : []),
    ...(uses.temporal ? (['temporal', 'temporalUi', 'temporalHttp', 'temporalMetrics'] as const) : []),
    ...(uses.workers
      ? (['controlHealth', 'controlMetrics', 'gateway', 'gatewayHealth', 'gatewayMetrics'] as const)
      : []),
    ...(uses.workers && uses.nodes.length === 0 ? (['nodeHealth', 'nodeMetrics'] as const) : []),
  ];
  const conflicts = await portConflicts(ports, wanted);
  if (conflicts.length === 0) return;
  const lines = conflicts.map(
    ({ use, port, holder }) => `port ${port} (${use}) is in use by ${holder ?? 'a process of another user'}`,
  );
  throw new Error(`${lines.join('; ')}: end it, or start the stack with other ports (--ports free)`);
}

async function prepareOwnCluster(
  directory: string,
  ports: Ports,
  nodes: readonly LocalNode[],
): Promise<string> {
  const server = `https://127.0.0.1:${ports.apiserver}`;
  await ensureCertificates(layout(directory).pki);
  writeControlPlaneKubeconfigs(directory, server);
  writeWorkerKubeconfigs(directory, ownCluster(directory, server));
  if (nodes.length > 0) await prepareNodes(directory, nodes, server);
  return adminKubeconfig(directory);
}

/** Keeps one flat file of what may be a list of files, so that the workers' kubeconfigs can name the same cluster. */
async function prepareForeignCluster(
  directory: string,
  { kubectl }: Tools,
  kubeconfig: string,
): Promise<string> {
  const args = ['config', 'view', '--raw', '--flatten', '--minify'];
  const text = await runKubectl(kubectl, args, { env: { KUBECONFIG: kubeconfig } });
  const { clusters } = parse(text) as { clusters: readonly { cluster: Record<string, unknown> }[] };
  const [first] = clusters;
  if (first === undefined) throw new Error(`KUBECONFIG=${kubeconfig} names no cluster`);
  const path = kubeconfigPath(directory, 'foreign');
  writeFileSync(path, text, { mode: 0o600 });
  writeWorkerKubeconfigs(directory, first.cluster);
  return path;
}
