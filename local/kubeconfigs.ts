import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { certificatePaths } from './certificates.js';
import { layout } from './paths.js';

/** How one user of the cluster proves who it is. */
type Credentials =
  | { readonly 'client-certificate-data': string; readonly 'client-key-data': string }
  | { readonly tokenFile: string };

/** The roles, and the ServiceAccount each of them is. */
export const WORKER_ACCOUNTS = {
  control: { namespace: 'dvflow', name: 'dvflow-control' },
  node: { namespace: 'dvflow-nodes', name: 'dvflow-node' },
  gateway: { namespace: 'dvflow', name: 'dvflow-gateway' },
} as const;

/** Every role that runs as a process. */
export const WORKER_ROLES = Object.keys(WORKER_ACCOUNTS) as readonly (keyof typeof WORKER_ACCOUNTS)[];

/** File in which the agent keeps a worker's current token. */
export function tokenPath(directory: string, worker: keyof typeof WORKER_ACCOUNTS): string {
  return join(layout(directory).tokens, worker);
}

/** Path of a user's kubeconfig. */
export function kubeconfigPath(directory: string, user: string): string {
  return join(layout(directory).kubeconfigs, `${user}.yaml`);
}

/** Writes the kubeconfigs of the administrator and of the control plane's own clients. */
export function writeControlPlaneKubeconfigs(directory: string, server: string): void {
  for (const user of ['admin', 'controller-manager', 'scheduler'])
    writeClientKubeconfig(directory, user, server);
}

/** Writes the kubeconfig of a user who has a certificate of that name. */
export function writeClientKubeconfig(directory: string, user: string, server: string): void {
  const { cert, key } = certificatePaths(layout(directory).pki, user);
  const credentials = { 'client-certificate-data': base64(cert), 'client-key-data': base64(key) };
  write(directory, user, ownCluster(directory, server), credentials);
}

/** Writes the workers' kubeconfigs, which name the token files instead of holding a token: tokens are renewed. */
export function writeWorkerKubeconfigs(directory: string, cluster: Readonly<Record<string, unknown>>): void {
  for (const worker of WORKER_ROLES) {
    write(directory, worker, cluster, { tokenFile: tokenPath(directory, worker) });
  }
}

/** The cluster entry of the stack's own API server. */
export function ownCluster(directory: string, server: string): Readonly<Record<string, unknown>> {
  return { server, 'certificate-authority-data': base64(certificatePaths(layout(directory).pki, 'ca').cert) };
}

function write(
  directory: string,
  user: string,
  cluster: Readonly<Record<string, unknown>>,
  credentials: Credentials,
): void {
  const kubeconfig = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'dvflow-local', cluster }],
    users: [{ name: user, user: credentials }],
    contexts: [{ name: 'dvflow-local', context: { cluster: 'dvflow-local', user } }],
    'current-context': 'dvflow-local',
  };
  writeFileSync(kubeconfigPath(directory, user), stringify(kubeconfig), { mode: 0o600 });
}

function base64(path: string): string {
  return readFileSync(path).toString('base64');
}
