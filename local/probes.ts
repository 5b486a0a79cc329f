import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { certificatePaths } from './certificates.js';
import { nodeOf, WORKER_HEALTH_PORT } from './nodes/commands.js';
import { KUBELET_HEALTH_PORT } from './nodes/kubelet.js';
import { containerdAnswers } from './nodes/start.js';
import type { LocalNode, NodeProcessName } from './nodes/types.js';
import { layout } from './paths.js';
import { isAlive, type ProcessRecord } from './processes.js';
import type { StackState } from './state.js';
import { SEARCH_ATTRIBUTE_NAMES } from './temporal.js';
import type { Ports, ProcessName } from './types.js';

const POLL_MS = 100;
const ANSWER_MS = 5_000;

/** Whether a process does its work, asked on its own port. */
export async function isReady(
  directory: string,
  { ports, nodes, processes }: Pick<StackState, 'ports' | 'nodes' | 'processes'>,
  name: ProcessName,
): Promise<boolean> {
  switch (name) {
    case 'kube-apiserver':
      return (await get(`https://127.0.0.1:${ports.apiserver}/readyz`, directory)) !== undefined;
    case 'kube-controller-manager':
      return (await get(`https://127.0.0.1:${ports.controllerManager}/healthz`, directory)) !== undefined;
    case 'kube-scheduler':
      return (await get(`https://127.0.0.1:${ports.scheduler}/healthz`, directory)) !== undefined;
    case 'temporal':
      return await temporalIsReady(ports);
    case 'worker-control':
      return (await get(`http://127.0.0.1:${ports.controlHealth}/readyz`)) !== undefined;
    case 'worker-control-2':
      return (await get(`http://127.0.0.1:${ports.control2Health}/readyz`)) !== undefined;
    case 'worker-node':
      return (await get(`http://127.0.0.1:${ports.nodeHealth}/readyz`)) !== undefined;
    case 'worker-gateway':
      return (await get(`http://127.0.0.1:${ports.gatewayHealth}/readyz`)) !== undefined;
    // The API server is ready only with etcd; what the agent does is seen in the cluster.
    case 'etcd':
    case 'agent':
      return true;
    default:
      return await nodeProcessIsReady(nodeOf(nodes, name), processes[name]?.pid, name);
  }
}

async function nodeProcessIsReady(
  node: LocalNode | undefined,
  pid: number | undefined,
  name: NodeProcessName,
): Promise<boolean> {
  if (node === undefined || pid === undefined) return false;
  if (name.startsWith('containerd-')) return await containerdAnswers(pid);
  const [port, path] = name.startsWith('kubelet-')
    ? [KUBELET_HEALTH_PORT, 'healthz']
    : [WORKER_HEALTH_PORT, 'readyz'];
  return (await get(`http://${node.address}:${port}/${path}`)) !== undefined;
}

/** Its namespace with every search attribute, and the UI. */
async function temporalIsReady(ports: Ports): Promise<boolean> {
  const attributes = await get(
    `http://127.0.0.1:${ports.temporalHttp}/api/v1/namespaces/default/search-attributes`,
  );
  if (attributes === undefined || !SEARCH_ATTRIBUTE_NAMES.every((name) => attributes.includes(`"${name}"`)))
    return false;
  return (await get(`http://127.0.0.1:${ports.temporalUi}/`)) !== undefined;
}

/** What to wait for, for how long, and when to give up earlier. */
export interface Wait {
  readonly what: string;
  readonly timeoutMs: number;
  /** Ends the wait with an error as soon as this process is gone. */
  readonly process?: ProcessRecord;
  readonly signal?: AbortSignal;
}

/**
 * Asks again until the answer is true.
 * @throws when the process has ended, the time is over or the signal aborts; the last lines of the log are in the message
 */
export async function waitUntil(check: () => Promise<boolean>, wait: Wait): Promise<void> {
  const deadline = Date.now() + wait.timeoutMs;
  while (!(await check())) {
    wait.signal?.throwIfAborted();
    if (wait.process !== undefined && !isAlive(wait.process)) {
      throw new Error(`${wait.what} ended while starting${lastLines(wait.process.log)}`);
    }
    if (Date.now() > deadline) {
      const log = wait.process === undefined ? '' : lastLines(wait.process.log);
      throw new Error(`${wait.what} was not ready after ${wait.timeoutMs / 1000} s${log}`);
    }
    await sleep(POLL_MS);
  }
}

function lastLines(log: string): string {
  const lines = readFileSync(log, 'utf8').trimEnd().split('\n').slice(-5);
  return `; end of ${log}:\n${lines.map((line) => `  ${line.slice(0, 400)}`).join('\n')}`;
}

/** Body of a 200 answer; undefined for any other and for none. With a directory, that stack's authority is trusted. */
async function get(url: string, directory?: string): Promise<string | undefined> {
  const options =
    directory === undefined ? {} : { ca: readFileSync(certificatePaths(layout(directory).pki, 'ca').cert) };
  const start = directory === undefined ? httpRequest : httpsRequest;
  return await new Promise((settle) => {
    const request = start(url, { ...options, agent: false, timeout: ANSWER_MS }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', () => settle(undefined));
      response.on('end', () =>
        settle(response.statusCode === 200 ? Buffer.concat(chunks).toString() : undefined),
      );
    });
    request.on('timeout', () => request.destroy());
    request.on('error', () => settle(undefined));
    request.end();
  });
}
