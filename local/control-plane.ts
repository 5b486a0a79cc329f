import { join } from 'node:path';
import { certificatePaths, KUBELET_CLIENT } from './certificates.js';
import { kubeconfigPath } from './kubeconfigs.js';
import type { LocalNode } from './nodes/types.js';
import { layout } from './paths.js';
import type { Ports } from './types.js';

/** First addresses of the Services; no Service of the local stack is reachable, since there is no kube-proxy. */
const SERVICE_RANGE = '10.0.0.0/24';

/** Arguments of etcd: one member, TLS on both ports, since anybody on the machine may connect to loopback. */
export function etcdArguments(directory: string, ports: Ports): readonly string[] {
  const { pki, etcd } = layout(directory);
  const { cert, key } = certificatePaths(pki, 'etcd');
  const authority = certificatePaths(pki, 'etcd-ca').cert;
  const client = `https://127.0.0.1:${ports.etcd}`;
  const peer = `https://127.0.0.1:${ports.etcdPeer}`;
  return [
    '--name=local',
    `--data-dir=${join(etcd, 'data')}`,
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=local=${peer}`,
    `--cert-file=${cert}`,
    `--key-file=${key}`,
    `--trusted-ca-file=${authority}`,
    '--client-cert-auth',
    `--peer-cert-file=${cert}`,
    `--peer-key-file=${key}`,
    `--peer-trusted-ca-file=${authority}`,
    '--peer-client-cert-auth',
    '--log-level=warn',
  ];
}

/** Arguments of kube-apiserver. */
export function apiserverArguments(
  directory: string,
  ports: Ports,
  nodes: readonly LocalNode[] = [],
): readonly string[] {
  const { pki } = layout(directory);
  const serving = certificatePaths(pki, 'apiserver');
  const etcdClient = certificatePaths(pki, 'apiserver-etcd');
  const proxy = certificatePaths(pki, 'front-proxy');
  return [
    '--bind-address=127.0.0.1',
    '--advertise-address=127.0.0.1',
    // The Service "kubernetes" would name a loopback address, which endpoints may not hold.
    '--endpoint-reconciler-type=none',
    `--secure-port=${ports.apiserver}`,
    `--tls-cert-file=${serving.cert}`,
    `--tls-private-key-file=${serving.key}`,
    `--client-ca-file=${certificatePaths(pki, 'ca').cert}`,
    `--etcd-servers=https://127.0.0.1:${ports.etcd}`,
    `--etcd-cafile=${certificatePaths(pki, 'etcd-ca').cert}`,
    `--etcd-certfile=${etcdClient.cert}`,
    `--etcd-keyfile=${etcdClient.key}`,
    '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
    `--service-account-key-file=${join(pki, 'service-account.pub')}`,
    `--service-account-signing-key-file=${join(pki, 'service-account.key')}`,
    '--authorization-mode=Node,RBAC',
    `--service-cluster-ip-range=${SERVICE_RANGE}`,
    `--requestheader-client-ca-file=${certificatePaths(pki, 'front-proxy-ca').cert}`,
    '--requestheader-allowed-names=front-proxy-client',
    '--requestheader-username-headers=X-Remote-User',
    '--requestheader-group-headers=X-Remote-Group',
    '--requestheader-extra-headers-prefix=X-Remote-Extra-',
    `--proxy-client-cert-file=${proxy.cert}`,
    `--proxy-client-key-file=${proxy.key}`,
    '--allow-privileged',
    '--profiling=false',
    ...(nodes.length > 0 ? kubeletClientArguments(pki) : []),
  ];
}

/** How the API server reaches kubelets, for logs and commands in pods. */
function kubeletClientArguments(pki: string): readonly string[] {
  const { cert, key } = certificatePaths(pki, KUBELET_CLIENT);
  return [
    `--kubelet-client-certificate=${cert}`,
    `--kubelet-client-key=${key}`,
    `--kubelet-certificate-authority=${certificatePaths(pki, 'ca').cert}`,
    '--kubelet-preferred-address-types=InternalIP',
  ];
}

/** Arguments of kube-controller-manager. */
export function controllerManagerArguments(directory: string, ports: Ports): readonly string[] {
  const { pki } = layout(directory);
  return [
    ...clientArguments(directory, 'controller-manager', ports.controllerManager),
    `--service-account-private-key-file=${join(pki, 'service-account.key')}`,
    `--root-ca-file=${certificatePaths(pki, 'ca').cert}`,
    '--use-service-account-credentials',
    // A new node is tainted until this controller looks at it: every 5 s by default.
    '--node-monitor-period=1s',
    // A claim that is looked at before its volume is known is left until the next look: in 15 s by default.
    '--pvclaimbinder-sync-period=1s',
  ];
}

/** Arguments of kube-scheduler. */
export function schedulerArguments(directory: string, ports: Ports): readonly string[] {
  return clientArguments(directory, 'scheduler', ports.scheduler);
}

/** What the two clients of the API server share: one replica each, so no leader is elected. */
function clientArguments(directory: string, name: string, port: number): readonly string[] {
  const { cert, key } = certificatePaths(layout(directory).pki, name);
  const kubeconfig = kubeconfigPath(directory, name);
  return [
    `--kubeconfig=${kubeconfig}`,
    `--authentication-kubeconfig=${kubeconfig}`,
    `--authorization-kubeconfig=${kubeconfig}`,
    '--leader-elect=false',
    '--bind-address=127.0.0.1',
    `--secure-port=${port}`,
    `--tls-cert-file=${cert}`,
    `--tls-private-key-file=${key}`,
    '--profiling=false',
  ];
}
