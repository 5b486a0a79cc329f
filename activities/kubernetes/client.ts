/** The one door to the Kubernetes API: how it is opened, how long a call may take, and what its errors mean. */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import {
  ApiException,
  AuthorizationV1Api,
  CoreV1Api,
  createConfiguration,
  CustomObjectsApi,
  DiscoveryV1Api,
  KubeConfig,
  PatchStrategy,
  ServerConfiguration,
  setHeaderOptions,
  StorageV1Api,
} from '@kubernetes/client-node';
import type { Configuration, Middleware, RequestContext, V1PersistentVolume } from '@kubernetes/client-node';
import { parse } from 'yaml';
import { kubernetesFailure } from './errors.js';

/** A call that takes longer is given up and tried again, in ms: an API server that is alive answers within this. */
const CALL_TIMEOUT_MS = 20_000;

/** Connections serve for so long, in ms; a renewed client certificate is used after it at the latest. */
const CONNECTIONS_KEPT_MS = 60_000;

/** For a patch whose body is merged into the object (RFC 7396): what others write to it meanwhile stays, and there is no conflict. */
export const MERGE_PATCH = setHeaderOptions('Content-Type', PatchStrategy.MergePatch);

/** The APIs that the activities use, with one identity. */
export interface Kubernetes {
  readonly core: CoreV1Api;
  readonly storage: StorageV1Api;
  readonly custom: CustomObjectsApi;
  readonly discovery: DiscoveryV1Api;
  readonly authorization: AuthorizationV1Api;
}

/**
 * Reads a kubeconfig file, or the pod's own ServiceAccount, or the user's default. A user's `tokenFile` is read again every
 * minute, so that a renewed token is found.
 */
export function loadKubeConfig(file?: string): KubeConfig {
  const kubeConfig = new KubeConfig();
  if (file === undefined) {
    kubeConfig.loadFromDefault();
    return kubeConfig;
  }
  kubeConfig.loadFromFile(file);
  const tokenFiles = readTokenFiles(file);
  kubeConfig.users = kubeConfig.users.map((user) => {
    const tokenFile = tokenFiles.get(user.name);
    if (!tokenFile) return user;
    // client-node knows no `tokenFile`; its provider of that name is what it uses for a pod's own token
    const { token: _, ...others } = user;
    return { ...others, authProvider: { name: 'tokenFile', config: { tokenFile } } };
  });
  return kubeConfig;
}

/** Files by user name. As in client-go a file goes before a token, and its path starts at the kubeconfig. */
function readTokenFiles(file: string): Map<string, string> {
  const config = parse(readFileSync(file, 'utf8')) as {
    users?: { name?: string; user?: { tokenFile?: string } }[];
  } | null;
  const found = new Map<string, string>();
  for (const { name, user } of config?.users ?? []) {
    if (name && user?.tokenFile) found.set(name, resolve(dirname(file), user.tokenFile));
  }
  return found;
}

/** Opens the APIs with the identity of the kubeconfig's current context. */
export function createKubernetes(kubeConfig: KubeConfig): Kubernetes {
  const configuration = createTimedConfiguration(kubeConfig);
  return {
    core: new CoreV1Api(configuration),
    storage: new StorageV1Api(configuration),
    custom: new CustomObjectsApi(configuration),
    discovery: new DiscoveryV1Api(configuration),
    authorization: new AuthorizationV1Api(configuration),
  };
}

function createTimedConfiguration(kubeConfig: KubeConfig): Configuration {
  const cluster = kubeConfig.getCurrentCluster();
  if (!cluster) throw new Error('the kubeconfig names no cluster');
  return createConfiguration({
    baseServer: new ServerConfiguration(cluster.server, {}),
    authMethods: { default: kubeConfig },
    promiseMiddleware: [createCallMiddleware()],
  });
}

/** Gives each call its time limit, and keeps connections: client-node would open a new one for every call. */
function createCallMiddleware(): Middleware {
  let kept: { dispatcher: ReturnType<RequestContext['getDispatcher']>; until: number } | undefined;
  return {
    async pre(context) {
      context.setSignal(AbortSignal.timeout(CALL_TIMEOUT_MS));
      if (!kept || kept.until < Date.now()) {
        kept = { dispatcher: context.getDispatcher(), until: Date.now() + CONNECTIONS_KEPT_MS };
      }
      if (kept.dispatcher) context.setDispatcher(kept.dispatcher);
      return context;
    },
    async post(context) {
      return context;
    },
  };
}

/**
 * Awaits one call; its error becomes a typed failure that says what was being done. `doing` completes "Kubernetes failed …":
 * `creating claim team-a/vm1`.
 */
export async function call<T>(doing: string, request: Promise<T>): Promise<T> {
  try {
    return await request;
  } catch (error) {
    throw kubernetesFailure(error, doing);
  }
}

/** As {@link call}; an object that is not there is `undefined`. */
export async function callIfFound<T extends object>(
  doing: string,
  request: Promise<T>,
): Promise<T | undefined> {
  const outcome = await callForOutcome(doing, request, [404]);
  return outcome === 'gone' || outcome === 'conflict' ? undefined : outcome;
}

/** As {@link call}; `'conflict'` when an object of that name exists. */
export async function callUnlessConflict<T extends object>(
  doing: string,
  request: Promise<T>,
): Promise<T | 'conflict'> {
  const outcome = await callForOutcome(doing, request, [409]);
  return outcome === 'gone' ? 'conflict' : outcome;
}

/** As {@link call}; `'gone'` when the object is not there, `'conflict'` when it has another uid or version by now. */
export async function callForOutcome<T extends object>(
  doing: string,
  request: Promise<T>,
  expected: readonly number[] = [404, 409],
): Promise<T | 'conflict' | 'gone'> {
  try {
    return await request;
  } catch (error) {
    const code = error instanceof ApiException ? error.code : 0;
    if (!expected.includes(code)) throw kubernetesFailure(error, doing);
    return code === 404 ? 'gone' : 'conflict';
  }
}

/** Every page of a list. */
export async function listAll<T>(
  doing: string,
  page: (options: { limit: number; _continue?: string }) => Promise<{
    items: T[];
    metadata?: { _continue?: string };
  }>,
): Promise<T[]> {
  const items: T[] = [];
  let token: string | undefined;
  do {
    const answer = await call(doing, page({ limit: 500, ...(token ? { _continue: token } : {}) }));
    items.push(...answer.items);
    token = answer.metadata?._continue;
  } while (token);
  return items;
}

/** Every PersistentVolume. */
export async function listVolumes({ core }: Pick<Kubernetes, 'core'>): Promise<V1PersistentVolume[]> {
  return await listAll('listing volumes', (page) => core.listPersistentVolume(page));
}
