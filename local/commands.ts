import { join } from 'node:path';
import {
  apiserverArguments,
  controllerManagerArguments,
  etcdArguments,
  schedulerArguments,
} from './control-plane.js';
import { namesTemporal, ownTemporal, processEnvironment } from './environment.js';
import { gatewaySettings, gatewayUrl } from './gateway.js';
import { kubeconfigPath } from './kubeconfigs.js';
import { DEVICES } from './loop-devices.js';
import { nodeCommand, nodeOf, nodeWorkerSettings } from './nodes/commands.js';
import { layout, projectRoot } from './paths.js';
import { peerDirectory } from '../workers/pki/directory.js';
import { STACK_MARK, type Command } from './processes.js';
import type { StackState } from './state.js';
import { temporalArguments } from './temporal.js';
import type { ProcessName } from './types.js';

/** Sources on the machine itself: what somebody tries out on a laptop is served there. */
const LOCAL_SOURCES = '127.0.0.0/8,::1/128';

/** The command line and environment with which a process of the stack is started. */
export function commandFor(directory: string, state: StackState, name: ProcessName): Command {
  const log = join(layout(directory).logs, `${name}.log`);
  const env = { ...processEnvironment(), [STACK_MARK]: directory };
  const { ports, tools } = state;
  const run = (argv: readonly string[], args: readonly string[]): Command => {
    const [file = '', ...leading] = argv;
    return { file, args: [...leading, ...args], env, log };
  };
  switch (name) {
    case 'etcd':
      return run(tools.etcd, etcdArguments(directory, ports));
    case 'kube-apiserver':
      return run(tools['kube-apiserver'], apiserverArguments(directory, ports, state.nodes));
    case 'kube-controller-manager':
      return run(tools['kube-controller-manager'], controllerManagerArguments(directory, ports));
    case 'kube-scheduler':
      return run(tools['kube-scheduler'], schedulerArguments(directory, ports));
    case 'temporal':
      return run(tools.temporal, temporalArguments(directory, ports));
    case 'agent':
      return run([process.execPath, join(projectRoot(), 'lib', 'local', 'agent-main.js')], [directory]);
    case 'worker-control':
    case 'worker-control-2':
    case 'worker-node':
    case 'worker-gateway':
      return workerCommand(directory, state, name, { env, log });
    default: {
      const node = nodeOf(state.nodes, name);
      if (node === undefined) throw new Error(`the local stack in ${directory} has no process ${name}`);
      const worker = workerCommand(directory, state, 'worker-node', { env, log });
      const settings = { ...worker.env, ...nodeWorkerSettings(node) };
      return nodeCommand(directory, node, name, { tools, env, worker: { ...worker, env: settings } });
    }
  }
}

/** The roles of processes that are workers of this machine. */
const ROLES = {
  'worker-control': 'control',
  'worker-control-2': 'control',
  'worker-node': 'node',
  'worker-gateway': 'gateway',
} as const;

/** Buffers of bodies are short-lived: a small young generation holds less of their garbage, at the same speed. */
const LEAN = ['--max-semi-space-size=1'];

function workerCommand(
  directory: string,
  { ports, node, temporalAddress, environment, own }: StackState,
  name: keyof typeof ROLES,
  { env, log }: Pick<Command, 'env' | 'log'>,
): Command {
  const role = ROLES[name];
  const [health, metrics] = {
    'worker-control': [ports.controlHealth, ports.controlMetrics],
    'worker-control-2': [ports.control2Health, ports.control2Metrics],
    'worker-node': [ports.nodeHealth, ports.nodeMetrics],
    'worker-gateway': [ports.gatewayHealth, ports.gatewayMetrics],
  }[name] as [number, number];
  // whoever has a Temporal elsewhere means that one by profile and key
  const settings = Object.entries(process.env).filter(
    ([key]) => /^(DVFLOW|TEMPORAL)_/.test(key) && !(own.temporal && namesTemporal(key)),
  );
  return {
    file: process.execPath,
    args: [
      ...(role === 'gateway' ? LEAN : []),
      join(projectRoot(), 'lib', 'cli', 'bundled', 'main.js'),
      'worker',
      role,
    ],
    env: {
      ...env,
      ...Object.fromEntries(settings),
      ...(own.temporal ? ownTemporal(directory) : {}),
      DVFLOW_ALLOWED_SOURCES: LOCAL_SOURCES,
      ...(role === 'node' ? volumeSettings(directory, node) : {}),
      ...(role === 'gateway' ? gatewaySettings(directory, ports) : {}),
      ...(role === 'control' ? { DVFLOW_UPLOAD_PROXY_URL: gatewayUrl(ports) } : {}),
      // a stack's own Temporal server serves whichever cluster the stack uses now
      ...(role === 'control' && own.temporal ? { DVFLOW_TAKE_TEMPORAL_NAMESPACE: 'true' } : {}),
      ...environment,
      DVFLOW_NODE_NAME: node,
      DVFLOW_HEALTH_ADDRESS: `127.0.0.1:${health}`,
      DVFLOW_METRICS_ADDRESS: `127.0.0.1:${metrics}`,
      KUBECONFIG: kubeconfigPath(directory, role),
      TEMPORAL_ADDRESS: temporalAddress,
    },
    log,
  };
}

/** What a node worker keeps outside of pools goes with the stack, and two workers of one machine do not meet. */
function volumeSettings(directory: string, node: string): Record<string, string> {
  const state = join(layout(directory).volumes, node);
  return {
    DVFLOW_STATE_DIRECTORY: state,
    DVFLOW_DEVICE_DIRECTORY: join(state, DEVICES),
    DVFLOW_TLS_DIRECTORY: peerDirectory(layout(directory).dataPortPki, 'dvflow-node'),
    DVFLOW_DATA_PORT_ADDRESS: '127.0.0.1:0',
  };
}
