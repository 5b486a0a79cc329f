import {
  ApiException,
  KubeConfig,
  KubernetesObjectApi,
  type KubernetesObject,
} from '@kubernetes/client-node';

/** An object as a test writes it: whatever it likes, valid or not. */
export interface Manifest extends KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { name: string; namespace?: string } & KubernetesObject['metadata'];
  readonly spec?: unknown;
}

/** Spec of a valid import, to be varied. */
export const IMPORT = {
  source: { http: { url: 'https://images.example.com/disk.qcow2' } },
  pvc: claim('1Gi'),
} as const;

/** A `spec.pvc` with one access mode and this size. */
export function claim(storage: string | number): {
  readonly accessModes: readonly string[];
  readonly resources: { readonly requests: { readonly storage: string | number } };
} {
  return { accessModes: ['ReadWriteOnce'], resources: { requests: { storage } } };
}

/** A `spec.storage` with this size. */
export function storage(size: string | number): {
  readonly resources: { readonly requests: { readonly storage: string | number } };
} {
  return { resources: { requests: { storage: size } } };
}

/** A DataVolume in namespace `default`. */
export function dataVolume(
  name: string,
  spec: unknown,
  { version = 'v1beta1', ...metadata }: { version?: string; annotations?: Record<string, string> } = {},
): Manifest {
  return {
    apiVersion: `cdi.kubevirt.io/${version}`,
    kind: 'DataVolume',
    metadata: { name, namespace: 'default', ...metadata },
    spec,
  };
}

/** The same access as another user. */
export function as(kubeConfig: KubeConfig, user: string): KubeConfig {
  const impersonating = new KubeConfig();
  impersonating.loadFromString(kubeConfig.exportConfig());
  impersonating.users = impersonating.users.map((own) => ({ ...own, impersonateUser: user }));
  return impersonating;
}

/** Asks the API server for everything but keeping the object. Resolves with its refusal, or undefined where it would accept. */
export async function refusal(kubeConfig: KubeConfig, manifest: Manifest): Promise<string | undefined> {
  const api = KubernetesObjectApi.makeApiClient(kubeConfig);
  return await messageOf(api.create(manifest, undefined, 'All'));
}

/** Creates the object. Resolves with the API server's refusal, or undefined. */
export async function create(kubeConfig: KubeConfig, manifest: Manifest): Promise<string | undefined> {
  return await messageOf(KubernetesObjectApi.makeApiClient(kubeConfig).create(manifest));
}

/** Resolves with what the API server said against a request, or undefined. */
export async function messageOf(request: Promise<unknown>): Promise<string | undefined> {
  try {
    await request;
    return undefined;
  } catch (error) {
    if (!(error instanceof ApiException)) throw error;
    const body: unknown = error.body;
    const status = (typeof body === 'string' ? JSON.parse(body) : body) as { message: string };
    return status.message;
  }
}
