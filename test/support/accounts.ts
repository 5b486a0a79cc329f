/** ServiceAccounts as pods use them: with a token of their own, not by impersonation. */
import { KubeConfig } from '@kubernetes/client-node';
import type { TestStack } from './stack.js';

/** Makes a ServiceAccount; resolves with the way in that its token opens. */
export async function createAccount(
  stack: Pick<TestStack, 'kubectl' | 'kubeConfig'>,
  namespace: string,
  name: string,
): Promise<KubeConfig> {
  if (name !== 'default') await stack.kubectl(['create', 'serviceaccount', name, '-n', namespace]);
  const token = await stack.kubectl(['create', 'token', name, '-n', namespace]);
  const cluster = stack.kubeConfig.getCurrentCluster();
  if (!cluster) throw new Error('the stack has no cluster');
  const config = new KubeConfig();
  config.loadFromClusterAndUser(cluster, { name, token: token.trim() });
  return config;
}

/** Name by which the API server knows a ServiceAccount. */
export function accountName(namespace: string, name: string): string {
  return `system:serviceaccount:${namespace}:${name}`;
}
