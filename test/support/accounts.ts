/** ServiceAccounts as pods use them: with a token of their own, not by impersonation. */
import { setTimeout as pause } from 'node:timers/promises';
import { AuthorizationV1Api, KubeConfig, type V1ResourceAttributes } from '@kubernetes/client-node';
import type { TestStack } from './stack.js';

/** What Kubernetes does of itself, the account of a namespace and the use of a right, comes within this time on a busy machine. */
const SOON_MS = 60_000;

/** Makes a ServiceAccount; resolves with the way in that its token opens. */
export async function createAccount(
  stack: Pick<TestStack, 'kubectl' | 'kubeConfig'>,
  namespace: string,
  name: string,
): Promise<KubeConfig> {
  if (name !== 'default') await stack.kubectl(['create', 'serviceaccount', name, '-n', namespace]);
  const token = await createToken(stack, namespace, name);
  const cluster = stack.kubeConfig.getCurrentCluster();
  if (!cluster) throw new Error('the stack has no cluster');
  const config = new KubeConfig();
  config.loadFromClusterAndUser(cluster, { name, token: token.trim() });
  return config;
}

/** The controller manager makes account `default` a moment after its namespace. */
async function createToken(
  stack: Pick<TestStack, 'kubectl'>,
  namespace: string,
  name: string,
): Promise<string> {
  for (const end = Date.now() + SOON_MS; ; await pause(200)) {
    try {
      return await stack.kubectl(['create', 'token', name, '-n', namespace]);
    } catch (error) {
      if (name !== 'default' || !/not found/.test(String(error)) || Date.now() > end) throw error;
    }
  }
}

/** Waits until the API server knows of a right that a ServiceAccount was given a moment ago. @throws where that never happens */
export async function awaitRight(
  { kubeConfig }: Pick<TestStack, 'kubeConfig'>,
  account: { readonly namespace: string; readonly name: string },
  right: V1ResourceAttributes,
): Promise<void> {
  for (const end = Date.now() + SOON_MS; !(await hasRight({ kubeConfig }, account, right)); await pause(100))
    if (Date.now() > end) throw new Error(`${account.name} never gets the right ${JSON.stringify(right)}`);
}

/** Whether a ServiceAccount has a right, by the API server's own word. */
export async function hasRight(
  { kubeConfig }: Pick<TestStack, 'kubeConfig'>,
  { namespace, name }: { readonly namespace: string; readonly name: string },
  resourceAttributes: V1ResourceAttributes,
): Promise<boolean> {
  const spec = {
    user: accountName(namespace, name),
    groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'],
    resourceAttributes,
  };
  const api = kubeConfig.makeApiClient(AuthorizationV1Api);
  const { status } = await api.createSubjectAccessReview({ body: { spec } });
  return status?.allowed ?? false;
}

/** Name by which the API server knows a ServiceAccount. */
export function accountName(namespace: string, name: string): string {
  return `system:serviceaccount:${namespace}:${name}`;
}
