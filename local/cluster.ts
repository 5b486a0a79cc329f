import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseAllDocuments, stringify } from 'yaml';
import { runKubectl, type KubectlOptions } from './kubectl.js';
import { projectRoot } from './paths.js';

/** As much of a Kubernetes object as is needed to sort it. */
interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
}

const TRY_AGAIN_MS = 500;
const ATTEMPTS = 20;

/** What the manifests are fitted to. */
export interface ManifestOptions {
  /** Directory of the hostpath volumes. */
  readonly pool: string;
  /** Temporal namespace whose starters may create DataVolumes everywhere. */
  readonly temporalNamespace: string;
  /** Whether claims that name no StorageClass get the one of the pool. */
  readonly defaultClass: boolean;
}

/** How kubectl is run. */
type Call = Pick<KubectlOptions, 'signal' | 'env'>;

/** Manifests as YAML: what the API server needs first, and objects of the kinds that this brings. */
export interface Manifests {
  readonly api: string;
  readonly objects: string;
}

/**
 * Renders namespaces, CRDs, rights, policies and the StorageClass of `deploy/`, and the HostPathProvisioner whose pool is
 * a directory of the stack. Workloads are left out: here the roles are processes. Needs no API server.
 */
export async function renderManifests(
  kubectl: readonly string[],
  { pool, temporalNamespace, defaultClass }: ManifestOptions,
  call: Call,
): Promise<Manifests> {
  const render = (part: string): Promise<string> =>
    runKubectl(kubectl, ['kustomize', join(projectRoot(), 'deploy', part)], call);
  const [api, defaults, temporal] = await Promise.all(['api', 'defaults', 'temporal'].map(render));
  const objects = [
    defaultClass ? makeDefault(defaults ?? '') : (defaults ?? ''),
    (temporal ?? '').replaceAll('dvflow:temporal:default', `dvflow:temporal:${temporalNamespace}`),
    stringify(hostPathProvisioner(pool)),
  ];
  return { api: api ?? '', objects: objects.join('\n---\n') };
}

/** Brings rendered manifests into the cluster. */
export async function applyManifests(
  kubectl: readonly string[],
  { api, objects }: Manifests,
  call: Call,
): Promise<void> {
  await applyObjects(kubectl, api, call);
  const crds = parse(api).filter(({ kind }) => kind === 'CustomResourceDefinition');
  const names = crds.map(({ metadata }) => `crd/${metadata.name}`);
  // again for all of a minute, since kubectl gives up on a definition that has no conditions yet
  const established = ['wait', '--for=condition=Established', '--timeout=3s', ...names];
  await insist(() => runKubectl(kubectl, established, call), call);
  await applyObjects(kubectl, objects, call);
}

/** Applies the objects in one call; again while the API server does not yet know a kind or a namespace of the same call. */
export async function applyObjects(kubectl: readonly string[], input: string, call: Call): Promise<void> {
  const args = ['apply', '--server-side', '--force-conflicts', '--field-manager=dvflow-local', '-f', '-'];
  await insist(() => runKubectl(kubectl, args, { ...call, input }), call);
}

/** Does something until it succeeds, or has failed often enough. */
async function insist(run: () => Promise<unknown>, { signal }: Call): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await run();
      return;
    } catch (error) {
      if (attempt === ATTEMPTS || signal?.aborted) throw error;
      await sleep(TRY_AGAIN_MS);
    }
  }
}

/** Marks the StorageClass among the manifests as the cluster's default. */
function makeDefault(text: string): string {
  const annotations = { 'storageclass.kubernetes.io/is-default-class': 'true' };
  const manifests = parse(text).map((manifest) =>
    manifest.kind === 'StorageClass'
      ? { ...manifest, metadata: { ...manifest.metadata, annotations } }
      : manifest,
  );
  return manifests.map((manifest) => stringify(manifest)).join('---\n');
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
