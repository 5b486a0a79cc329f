import { join } from 'node:path';
import { layout } from '../paths.js';
import type { Command } from '../processes.js';
import { requireState, type StackState } from '../state.js';
import { containerdPaths } from './containerd.js';
import { kubeletArguments } from './kubelet.js';
import { inNewNode, inNodeOf, withPool } from './namespace.js';
import { findNodeProgram, TOOL_PATH } from './requirements.js';
import type { LocalNode, NodeProcessName } from './types.js';

/** Ports of a node's worker, the same on every node: each listens on an address of its own. */
export const WORKER_HEALTH_PORT = 16_085;
const WORKER_METRICS_PORT = 16_086;

/** The node of a process; undefined for processes that belong to no real node. */
export function nodeOf(nodes: readonly LocalNode[] | undefined, name: string): LocalNode | undefined {
  return nodes?.find((node) => name.endsWith(`-${node.name}`));
}

/** Settings of a node's worker besides those that every worker has. */
export function nodeWorkerSettings({
  name,
  address,
  directory,
}: LocalNode): Readonly<Record<string, string>> {
  return {
    DVFLOW_NODE_NAME: name,
    DVFLOW_STATE_DIRECTORY: join(directory, 'worker'),
    DVFLOW_DEVICE_DIRECTORY: join(directory, 'devices'),
    DVFLOW_HEALTH_ADDRESS: `${address}:${WORKER_HEALTH_PORT}`,
    DVFLOW_METRICS_ADDRESS: `${address}:${WORKER_METRICS_PORT}`,
    DVFLOW_DATA_PORT_ADDRESS: `${address}:0`,
  };
}

/**
 * The command line with which a process of a real node is started; `worker` is that of an ordinary node worker.
 * @throws when the kubelet's containerd, whose mounts it shares, does not run
 */
export function nodeCommand(
  directory: string,
  node: LocalNode,
  name: NodeProcessName,
  { tools, env, worker }: Pick<StackState, 'tools'> & Pick<Command, 'env'> & { readonly worker: Command },
): Command {
  const { pool, logs } = layout(directory);
  const log = join(logs, `${name}.log`);
  if (name.startsWith('worker-')) {
    return { ...withPool(node, pool, [worker.file, ...worker.args]), env: worker.env, log };
  }
  const root = { ...env, PATH: TOOL_PATH };
  if (name.startsWith('containerd-')) {
    const containerd = findNodeProgram('containerd') ?? 'containerd';
    const { config } = containerdPaths(node);
    return { ...inNewNode(node, pool, [containerd, '--config', config]), env: root, log };
  }
  const runtime = requireState(directory).processes[`containerd-${node.name}`];
  if (runtime === undefined) throw new Error(`${name} needs containerd-${node.name}, which does not run`);
  const argv = [...tools.kubelet, ...kubeletArguments(directory, node)];
  return { ...inNodeOf(node, runtime.pid, argv), env: root, log };
}
