import { chmodSync, renameSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  CoordinationV1Api,
  CoreV1Api,
  KubeConfig,
  V1MicroTime,
  type V1Node,
  type V1NodeCondition,
} from '@kubernetes/client-node';
import { MERGE_PATCH } from '../activities/kubernetes/client.js';
import { tokenPath, WORKER_ACCOUNTS, WORKER_ROLES } from './kubeconfigs.js';
import type { Log } from './types.js';

/** The kubelet's own interval; the node counts as lost 40 s after the last renewal. */
const HEARTBEAT_MS = 10_000;
const RETRY_MS = 500;
const TOKEN_SECONDS = 3_600;
const LEASE_SECONDS = 40;
const LEASES = 'kube-node-lease';

/** What the agent keeps alive. */
export interface AgentOptions {
  readonly directory: string;
  /** The Node object that stands for this machine; absent where kubelets keep real ones. */
  readonly node?: string;
  /** Administrator's kubeconfig. */
  readonly kubeconfig: string;
  readonly workers: boolean;
}

/**
 * Stands in for what a kubelet would do for the node worker: keeps the Node object Ready and its Lease renewed, and the
 * workers' token files fresh. Goes on through every outage of the API server until the signal aborts.
 */
export async function runAgent(options: AgentOptions, signal: AbortSignal, log: Log): Promise<void> {
  const config = new KubeConfig();
  config.loadFromFile(options.kubeconfig);
  const core = config.makeApiClient(CoreV1Api);
  const coordination = config.makeApiClient(CoordinationV1Api);
  const renewAt = new Map<string, number>();
  while (!signal.aborted) {
    let pause = HEARTBEAT_MS;
    try {
      if (options.node !== undefined) {
        await ensureNode(core, options.node);
        await renewLease(coordination, options.node);
      }
      if (options.workers) await renewTokens(core, options.directory, renewAt);
    } catch (error) {
      log(
        `${new Date().toISOString()} ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`,
      );
      pause = RETRY_MS;
    }
    await sleep(pause, undefined, { signal }).catch(() => undefined);
  }
}

/** Creates the Node object or adopts the one that is there, and reports it Ready. */
async function ensureNode(core: CoreV1Api, name: string): Promise<void> {
  const labels = {
    'kubernetes.io/hostname': name,
    'kubernetes.io/os': 'linux',
    'kubernetes.io/arch': process.arch === 'x64' ? 'amd64' : process.arch,
  };
  const node: V1Node = { apiVersion: 'v1', kind: 'Node', metadata: { name, labels } };
  await adopt(core.createNode({ body: node }));
  await core.patchNode({ name, body: { metadata: { labels } } }, MERGE_PATCH);
  await core.patchNodeStatus({ name, body: { status: nodeStatus(name) } }, MERGE_PATCH);
}

function nodeStatus(name: string): V1Node['status'] {
  const room = { cpu: String(cpus().length), memory: String(totalmem()), pods: '110' };
  const conditions = [
    condition('Ready', 'True', 'LocalStack'),
    condition('MemoryPressure', 'False', 'LocalStack'),
    condition('DiskPressure', 'False', 'LocalStack'),
    condition('PIDPressure', 'False', 'LocalStack'),
  ];
  return { addresses: [{ type: 'Hostname', address: name }], capacity: room, allocatable: room, conditions };
}

function condition(type: string, status: string, reason: string): V1NodeCondition {
  return {
    type,
    status,
    reason,
    message: 'kept by the local stack; no kubelet runs',
    lastHeartbeatTime: new Date(),
  };
}

async function renewLease(coordination: CoordinationV1Api, name: string): Promise<void> {
  const spec = { holderIdentity: name, leaseDurationSeconds: LEASE_SECONDS, renewTime: new V1MicroTime() };
  const body = { metadata: { name, namespace: LEASES }, spec };
  await adopt(coordination.createNamespacedLease({ namespace: LEASES, body }));
  await coordination.patchNamespacedLease({ name, namespace: LEASES, body: { spec } }, MERGE_PATCH);
}

/** Writes a new token for each worker whose last one has used up half of its time. */
async function renewTokens(core: CoreV1Api, directory: string, renewAt: Map<string, number>): Promise<void> {
  for (const worker of WORKER_ROLES) {
    if (Date.now() < (renewAt.get(worker) ?? 0)) continue;
    const body = { spec: { audiences: [], expirationSeconds: TOKEN_SECONDS } };
    const { status } = await core.createNamespacedServiceAccountToken({ ...WORKER_ACCOUNTS[worker], body });
    if (!status?.token) throw new Error(`no token for ${WORKER_ACCOUNTS[worker].name}`);
    const path = tokenPath(directory, worker);
    writeFileSync(`${path}.new`, status.token, { mode: 0o600 });
    chmodSync(`${path}.new`, 0o600);
    renameSync(`${path}.new`, path);
    const lifetime = new Date(status.expirationTimestamp ?? 0).getTime() - Date.now();
    renewAt.set(worker, Date.now() + lifetime / 2);
  }
}

/** Lets an object that exists already count as created. */
async function adopt(creation: Promise<unknown>): Promise<void> {
  await creation.catch((error: unknown) => {
    if ((error as { code?: number }).code !== 409) throw error;
  });
}
