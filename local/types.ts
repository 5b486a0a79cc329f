import type { LocalNode, NodeProcessName } from './nodes/types.js';

/** Processes of the local stack, in the order in which they start. */
export type ProcessName =
  | 'etcd'
  | 'kube-apiserver'
  | 'kube-controller-manager'
  | 'kube-scheduler'
  | 'temporal'
  | 'agent'
  | 'worker-control'
  | 'worker-control-2'
  | 'worker-node'
  | 'worker-gateway'
  | NodeProcessName;

/** Loopback ports of the local stack, one for each listener. */
export interface Ports {
  readonly etcd: number;
  readonly etcdPeer: number;
  readonly apiserver: number;
  readonly controllerManager: number;
  readonly scheduler: number;
  readonly temporal: number;
  readonly temporalUi: number;
  readonly temporalHttp: number;
  readonly temporalMetrics: number;
  readonly controlHealth: number;
  readonly controlMetrics: number;
  readonly control2Health: number;
  readonly control2Metrics: number;
  readonly nodeHealth: number;
  readonly nodeMetrics: number;
  readonly gateway: number;
  readonly gatewayHealth: number;
  readonly gatewayMetrics: number;
}

/** What a caller may choose about the local stack. */
export interface StackOptions {
  /** Where all its state lies. @default {@link stateDirectory} */
  readonly directory?: string;
  /** `free` takes ports that nobody uses, so that several stacks run at once. @default 'default' */
  readonly ports?: 'default' | 'free';
  /** Whether dvflow's own workers run. @default true */
  readonly workers?: boolean;
  /**
   * Real nodes (`node01`, …), each with a kubelet, a containerd and a node worker of its own; they need root. Without them
   * one Node object stands for this machine, and no pod runs. @default as many as at the last start, else 0
   */
  readonly nodes?: number;
  /** Environment added to that of the workers. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** A running local stack: where to reach it. */
export interface StackInfo {
  readonly directory: string;
  /** Path of the administrator's kubeconfig. */
  readonly kubeconfig: string;
  readonly temporalAddress: string;
  /** Temporal's UI; empty where the Temporal server is not the stack's own. */
  readonly uiUrl: string;
  /** Name of the Node object that the node worker serves; of the first one where there are real nodes. */
  readonly node: string;
  /** Real nodes; empty where one Node object stands for this machine. */
  readonly nodes: readonly LocalNode[];
  /** Directory of the hostpath volumes, as every node sees it. */
  readonly pool: string;
  /** Program and leading arguments of a kubectl that talks to this stack. */
  readonly kubectl: readonly string[];
  readonly ports: Ports;
  readonly pids: Readonly<Partial<Record<ProcessName, number>>>;
}

/** Receives one line of progress. */
export type Log = (line: string) => void;
