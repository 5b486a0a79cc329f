import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseAllDocuments, stringify } from 'yaml';
import { runKubectl } from './kubectl.js';
import { projectRoot } from './paths.js';

/** As much of a Kubernetes object as is needed to sort it. */
interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
}

const TRY_AGAIN_MS = 500;
const APPLY_ATTEMPTS = 20;

/** What the manifests are fitted to. */
export interface ManifestOptions {
  /** Directory of the hostpath volumes. */
  readonly pool: string;
  /** Temporal namespace whose starters may create DataVolumes everywhere. */
  readonly temporalNamespace: string;
  readonly signal?: AbortSignal;
}

/**
 * Brings namespaces, CRDs, rights, policies and the StorageClass of `deploy/` into the cluster, and the
 * HostPathProvisioner whose pool is a directory of the stack. Workloads are left out: here the roles are processes.
 */
export async function applyManifests(kubectl: readonly string[], options: ManifestOptions): Promise<void> {
  const api = await kustomize(kubectl, 'api', options);
  await apply(kubectl, api, options);
  const crds = parse(api).filter(({ kind }) => kind === 'CustomResourceDefinition');
  const names = crds.map(({ metadata }) => `crd/${metadata.name}`);
  await runKubectl(
    kubectl,
    ['wait', '--for=condition=Established', '--timeout=60s', ...names],
    signalOf(options),
  );
  const temporal = await kustomize(kubectl, 'temporal', options);
  const objects = [
    await kustomize(kubectl, 'defaults', options),
    temporal.replaceAll('dvflow:temporal:default', `dvflow:temporal:${options.temporalNamespace}`),
    stringify(hostPathProvisioner(options.pool)),
  ];
  await apply(kubectl, objects.join('\n---\n'), options);
}

/** Applies the objects in one call; again while the API server does not yet know a kind or a namespace of the same call. */
async function apply(kubectl: readonly string[], input: string, options: ManifestOptions): Promise<void> {
  const args = ['apply', '--server-side', '--force-conflicts', '--field-manager=dvflow-local', '-f', '-'];
  for (let attempt = 1; ; attempt += 1) {
    try {
      await runKubectl(kubectl, args, { input, ...signalOf(options) });
      return;
    } catch (error) {
      if (attempt === APPLY_ATTEMPTS || options.signal?.aborted) throw error;
      await sleep(TRY_AGAIN_MS);
    }
  }
}

async function kustomize(
  kubectl: readonly string[],
  part: string,
  options: ManifestOptions,
): Promise<string> {
  return await runKubectl(kubectl, ['kustomize', join(projectRoot(), 'deploy', part)], signalOf(options));
}

function signalOf({ signal }: ManifestOptions): { readonly signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

function parse(text: string): readonly Manifest[] {
  return parseAllDocuments(text).map((document) => document.toJS() as Manifest);
}

function hostPathProvisioner(path: string): unknown {
  return {
    apiVersion: 'hostpathprovisioner.kubevirt.io/v1beta1',
    kind: 'HostPathProvisioner',
    metadata: { name: 'hostpath-provisioner' },
    spec: { imagePullPolicy: 'IfNotPresent', pathConfig: { path, useNamingPrefix: false } },
  };
}
