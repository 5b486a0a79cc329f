import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { certificatePaths } from '../certificates.js';
import { kubeconfigPath } from '../kubeconfigs.js';
import { layout } from '../paths.js';
import { CONTAINERD_SOCKET } from './containerd.js';
import type { LocalNode } from './types.js';

/** Port of `/healthz`, the same on every node: each listens on an address of its own. */
export const KUBELET_HEALTH_PORT = 10_248;

/** Name of a node's certificate and of its kubeconfig. */
export function kubeletUser({ name }: LocalNode): string {
  return `kubelet-${name}`;
}

/** Arguments of a node's kubelet. */
export function kubeletArguments(directory: string, node: LocalNode): readonly string[] {
  return [
    `--config=${join(node.directory, 'kubelet.yaml')}`,
    `--kubeconfig=${kubeconfigPath(directory, kubeletUser(node))}`,
    `--hostname-override=${node.name}`,
    `--node-ip=${node.address}`,
    `--root-dir=${join(node.directory, 'kubelet')}`,
    `--cert-dir=${join(node.directory, 'kubelet', 'pki')}`,
  ];
}

/** Writes the configuration of a node's kubelet. */
export function writeKubeletConfig(directory: string, node: LocalNode): void {
  const { pki } = layout(directory);
  const { cert, key } = certificatePaths(pki, kubeletUser(node));
  const resolvConf = join(node.directory, 'resolv.conf');
  writeFileSync(resolvConf, '');
  const config = {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    address: node.address,
    healthzBindAddress: node.address,
    healthzPort: KUBELET_HEALTH_PORT,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: certificatePaths(pki, 'ca').cert },
    },
    authorization: { mode: 'Webhook' },
    tlsCertFile: cert,
    tlsPrivateKeyFile: key,
    containerRuntimeEndpoint: `unix://${CONTAINERD_SOCKET}`,
    podLogsDir: join(node.directory, 'pod-logs'),
    volumePluginDir: join(node.directory, 'volume-plugins'),
    // No Service is reachable, a DNS server the less; a pod's own resolv.conf has to name one.
    resolvConf,
    clusterDNS: ['10.0.0.10'],
    ...cgroupConfig(node),
    // The machine is the user's: neither its firewall and kernel settings nor its fill level are a node's business.
    makeIPTablesUtilChains: false,
    protectKernelDefaults: true,
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
    evictionHard: { 'memory.available': '0%', 'nodefs.available': '0%', 'imagefs.available': '0%' },
    failSwapOn: false,
    oomScoreAdj: 0,
    localStorageCapacityIsolation: false,
  };
  writeFileSync(join(node.directory, 'kubelet.yaml'), stringify(config));
}

function cgroupConfig({ cgroup }: LocalNode): Readonly<Record<string, unknown>> {
  return {
    failCgroupV1: false,
    cgroupDriver: 'cgroupfs',
    cgroupRoot: `/${cgroup}`,
    enforceNodeAllocatable: [],
  };
}

/**
 * Kernel settings that a kubelet insists on, as files below /proc/sys. It is shown copies of them with these values, so
 * that the machine keeps its own.
 */
export const KERNEL_SETTINGS: Readonly<Record<string, string>> = {
  'vm/overcommit_memory': '1',
  'vm/panic_on_oom': '0',
  'kernel/panic': '10',
  'kernel/panic_on_oops': '1',
  'kernel/keys/root_maxkeys': '1000000',
  'kernel/keys/root_maxbytes': '25000000',
};
