/** Processes of a real node, one of each a node. */
export type NodeProcessName = `containerd-node${number}` | `kubelet-node${number}` | `worker-node${number}`;

/** A real node of the local stack as it was planned: enough to take it apart again, whatever of it has died. */
export interface LocalNode {
  /** Name of the Node object: `node01`, `node02`, … */
  readonly name: `node${number}`;
  /** Everything that the node keeps on disk. */
  readonly directory: string;
  /**
   * Where the node's hostpath volumes lie on this machine. The node itself sees this directory under the path of the
   * HostPathProvisioner, which is the same on every node.
   */
  readonly pool: string;
  /** Bridge that its pods and its kubelet are on. */
  readonly bridge: string;
  /** Address of the bridge, which is the node's InternalIP. */
  readonly address: string;
  /** Prefix length of the bridge's network. */
  readonly prefix: number;
  /** Name of the cgroup of everything on the node, in each hierarchy. */
  readonly cgroup: string;
}
