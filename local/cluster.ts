import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseAllDocuments, stringify } from 'yaml';
import { runKubectl } from './kubectl.js';
import { projectRoot } from './paths.js';

/** As much of a Kubernetes object as is needed to sort it. */
interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string };
}

/** Kinds of `deploy/` that the local stack replaces: it runs the roles as processes, and its pool lies elsewhere. */
const REPLACED = new Set([
  'Deployment', 'DaemonSet', 'Service', 'PodDisruptionBudget', 'ScaledObject', 'TriggerAuthentication',
  'APIService', 'NetworkPolicy', 'ServiceMonitor', 'PodMonitor', 'HostPathProvisioner',
]); // prettier-ignore

const TRY_AGAIN_MS = 500;
const APPLY_ATTEMPTS = 20;

/**
 * Brings CRDs, RBAC, policies, the StorageClass and the HostPathProvisioner of `deploy/` into the cluster, the pool
 * being a directory of the stack, and lets Temporal's namespace create DataVolumes everywhere.
 */
export async function applyManifests(
  kubectl: readonly string[],
  { pool, temporalNamespace, signal }: { pool: string; temporalNamespace: string; signal?: AbortSignal },
): Promise<void> {
  const options = signal === undefined ? {} : { signal };
  const deploy = join(projectRoot(), 'deploy');
  const base = existsSync(join(deploy, 'kustomization.yaml'))
    ? parse(await runKubectl(kubectl, ['kustomize', deploy], options)).filter(
        (manifest) => !REPLACED.has(manifest.kind),
      )
    : [];
  const overlay = localObjects(pool, temporalNamespace, base);
  const isFirst = ({ kind }: Manifest): boolean =>
    kind === 'CustomResourceDefinition' || kind === 'Namespace';
  await apply(kubectl, base.filter(isFirst), options);
  const names = base
    .filter(({ kind }) => kind === 'CustomResourceDefinition')
    .map(({ metadata }) => `crd/${metadata.name}`);
  if (names.length > 0) {
    await runKubectl(kubectl, ['wait', '--for=condition=Established', '--timeout=60s', ...names], options);
  }
  await apply(kubectl, [...base.filter((manifest) => !isFirst(manifest)), ...overlay], options);
}

/** Applies the objects in one call; again while the API server does not yet know a kind or a namespace of the call before. */
async function apply(
  kubectl: readonly string[],
  manifests: readonly Manifest[],
  options: { readonly signal?: AbortSignal },
): Promise<void> {
  if (manifests.length === 0) return;
  const input = manifests.map((manifest) => stringify(manifest)).join('---\n');
  const args = ['apply', '--server-side', '--force-conflicts', '--field-manager=dvflow-local', '-f', '-'];
  for (let attempt = 1; ; attempt += 1) {
    try {
      await runKubectl(kubectl, args, { input, ...options });
      return;
    } catch (error) {
      if (attempt === APPLY_ATTEMPTS || options.signal?.aborted) throw error;
      await sleep(TRY_AGAIN_MS);
    }
  }
}

function parse(text: string): readonly Manifest[] {
  return parseAllDocuments(text).flatMap((document) => {
    const manifest = document.toJS() as Manifest | null;
    return manifest === null ? [] : [manifest];
  });
}

/** Objects that only a local stack has, beside those of `deploy/`. */
function localObjects(
  pool: string,
  temporalNamespace: string,
  base: readonly Manifest[],
): readonly Manifest[] {
  const role = 'dvflow-local-temporal';
  const rbac = 'rbac.authorization.k8s.io';
  const provisioner = {
    apiVersion: 'hostpathprovisioner.kubevirt.io/v1beta1',
    kind: 'HostPathProvisioner',
    metadata: { name: 'hostpath-provisioner' },
    spec: { imagePullPolicy: 'IfNotPresent', pathConfig: { path: pool, useNamingPrefix: false } },
  };
  const hasKind = base.some(
    ({ kind, metadata }) =>
      kind === 'CustomResourceDefinition' &&
      metadata.name === 'hostpathprovisioners.hostpathprovisioner.kubevirt.io',
  );
  const storageClass = {
    apiVersion: 'storage.k8s.io/v1',
    kind: 'StorageClass',
    metadata: { name: 'hostpath-provisioner' },
    provisioner: 'kubevirt.io/hostpath-provisioner',
    reclaimPolicy: 'Delete',
    volumeBindingMode: 'WaitForFirstConsumer',
  };
  return [
    ...(hasKind ? [provisioner] : []),
    ...(base.some(({ kind }) => kind === 'StorageClass') ? [] : [storageClass]),
    {
      apiVersion: `${rbac}/v1`,
      kind: 'ClusterRole',
      metadata: { name: role },
      rules: [{ apiGroups: ['cdi.kubevirt.io'], resources: ['datavolumes'], verbs: ['create', 'get'] }],
    } as Manifest,
    {
      apiVersion: `${rbac}/v1`,
      kind: 'ClusterRoleBinding',
      metadata: { name: role },
      roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: role },
      subjects: [{ apiGroup: rbac, kind: 'User', name: `dvflow:temporal:${temporalNamespace}` }],
    } as Manifest,
  ];
}
