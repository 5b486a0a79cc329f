import { statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PAUSE_IMAGE } from './images.js';
import type { LocalNode } from './types.js';

/** Where containerd listens, as its node sees it: each has a `/run` of its own. Not where the machine's own one listens. */
export const CONTAINERD_SOCKET = '/run/dvflow/containerd.sock';

/** `OVERLAYFS_SUPER_MAGIC`: an overlay cannot lie on another one. */
const OVERLAY = 0x794c7630;

/** Files of a node's containerd. */
export function containerdPaths({ directory }: LocalNode): {
  readonly config: string;
  readonly root: string;
  readonly networks: string;
} {
  return {
    config: join(directory, 'containerd.toml'),
    root: join(directory, 'containerd'),
    networks: join(directory, 'cni'),
  };
}

/** Writes what containerd and the bridge plugin of a node read. */
export function writeContainerdConfig(node: LocalNode, plugins: string): void {
  const { config, networks } = containerdPaths(node);
  writeFileSync(config, containerdConfig(node, plugins));
  writeFileSync(join(networks, '10-bridge.conflist'), `${JSON.stringify(networkConfig(node), null, 2)}\n`);
}

function containerdConfig(node: LocalNode, plugins: string): string {
  const { root, networks } = containerdPaths(node);
  const snapshotter = statfsSync(node.directory).type === OVERLAY ? 'native' : 'overlayfs';
  const text = JSON.stringify;
  return `version = 2
root = ${text(root)}
state = "/run/containerd"
# what a node needs not, and what looks for kernel modules or directories of the machine
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
address = ${text(CONTAINERD_SOCKET)}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = ${text(PAUSE_IMAGE)}
# Without CAP_SYS_RESOURCE no process may become harder to kill than it is.
restrict_oom_score_adj = true
# A pod that is not root opens the block device of its volume.
device_ownership_from_security_context = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = ${text(snapshotter)}

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = ${text(plugins)}
conf_dir = ${text(networks)}
`;
}

/**
 * Pods reach each other on their node, and the node itself. No gateway: the plugin would turn on forwarding for the
 * whole machine.
 */
function networkConfig({ bridge, address, prefix }: LocalNode): unknown {
  const base = address.replace(/\.\d+$/, '');
  const ranges = [[{ subnet: `${base}.0/${prefix}`, rangeStart: `${base}.10` }]];
  return {
    cniVersion: '0.4.0',
    name: 'dvflow',
    plugins: [
      {
        type: 'bridge',
        bridge,
        isGateway: false,
        ipMasq: false,
        ipam: { type: 'host-local', dataDir: '/run/cni', ranges },
      },
    ],
  };
}
