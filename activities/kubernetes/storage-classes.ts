/** Which StorageClass a claim gets, and what is configured about classes (`design.md` §5, `cdi.md` §1.6). */
import type { V1StorageClass } from '@kubernetes/client-node';
import { permanentFailure } from '../failures.js';
import { callIfFound, listAll } from './client.js';
import type { Kubernetes } from './client.js';
import { readClusterObject } from './cluster-objects.js';
import { OWN_NAMESPACE } from './names.js';
import type { CdiConfig, StorageProfile } from './objects.js';

const DEFAULT_CLASS = 'storageclass.kubernetes.io/is-default-class';
/** The spelling of Kubernetes before 1.6, which it still honours. */
const DEFAULT_CLASS_BETA = 'storageclass.beta.kubernetes.io/is-default-class';
const DEFAULT_VIRT_CLASS = 'storageclass.kubevirt.io/is-default-virt-class';

/** ConfigMap that OpenShift's documents use to set modes per class. */
export const DEFAULTS_CONFIG_MAP = 'kubevirt-storage-class-defaults';
/** Where it is looked for; a key of the first goes before the same key of the second. */
const DEFAULTS_NAMESPACES = ['openshift-cnv', OWN_NAMESPACE];

/**
 * The StorageClass that a claim names, or the default: for `storage` KubeVirt's default for disks first, then Kubernetes';
 * of several the newest, then the first by name. An archive is no disk: CDI gives it the default of `pvc`.
 *
 * @throws {@link FailureType} `StorageClassNotFound`
 */
export async function chooseStorageClass(
  kubernetes: Kubernetes,
  name: string | undefined,
  api: 'pvc' | 'storage',
): Promise<V1StorageClass> {
  if (name !== undefined) {
    const found = await findStorageClass(kubernetes, name);
    if (!found) throw permanentFailure('StorageClassNotFound', `StorageClass "${name}" does not exist`);
    return found;
  }
  const classes = await listAll('listing StorageClasses', (page) =>
    kubernetes.storage.listStorageClass(page),
  );
  const chosen = defaultStorageClass(classes, api);
  if (chosen) return chosen;
  throw permanentFailure(
    'StorageClassNotFound',
    'the DataVolume names no storageClassName and the cluster has no default StorageClass: name one, or set annotation ' +
      `${api === 'storage' ? `${DEFAULT_VIRT_CLASS} or ` : ''}${DEFAULT_CLASS} to "true" on one`,
  );
}

/** The default among these classes. */
export function defaultStorageClass(
  classes: readonly V1StorageClass[],
  api: 'pvc' | 'storage',
): V1StorageClass | undefined {
  const marks = api === 'storage' ? [[DEFAULT_VIRT_CLASS], KUBERNETES_DEFAULTS] : [KUBERNETES_DEFAULTS];
  for (const annotations of marks) {
    const [newest] = classes
      .filter(({ metadata }) =>
        annotations.some((annotation) => metadata?.annotations?.[annotation] === 'true'),
      )
      .sort((a, b) => createdAt(b) - createdAt(a) || byName(a, b));
    if (newest) return newest;
  }
  return undefined;
}

const KUBERNETES_DEFAULTS = [DEFAULT_CLASS, DEFAULT_CLASS_BETA];

function createdAt({ metadata }: V1StorageClass): number {
  return metadata?.creationTimestamp?.getTime() ?? 0;
}

/** By the letters' codes as Kubernetes does; a language's own order passes over hyphens. */
function byName(a: V1StorageClass, b: V1StorageClass): number {
  return nameOf(a) < nameOf(b) ? -1 : 1;
}

function nameOf({ metadata }: V1StorageClass): string {
  return metadata?.name ?? '';
}

/** The StorageClass; absent where it is not there, or is going. */
export async function findStorageClass(
  { storage }: Kubernetes,
  name: string,
): Promise<V1StorageClass | undefined> {
  const found = await callIfFound(`reading StorageClass ${name}`, storage.readStorageClass({ name }));
  return found?.metadata?.deletionTimestamp ? undefined : found;
}

/** CDI's cluster-wide settings; absent where nobody made them. */
export async function readCdiConfig(kubernetes: Kubernetes): Promise<CdiConfig | undefined> {
  return await readClusterObject<CdiConfig>(kubernetes, 'cdiconfigs', 'config');
}

/** The profile of a class; absent where nobody made one. */
export async function readStorageProfile(
  kubernetes: Kubernetes,
  name: string,
): Promise<StorageProfile | undefined> {
  return await readClusterObject<StorageProfile>(kubernetes, 'storageprofiles', name);
}

/** `kubevirt-storage-class-defaults`, key by key from both namespaces; empty where nobody made one. */
export async function readModeDefaults({ core }: Kubernetes): Promise<Readonly<Record<string, string>>> {
  const found = await Promise.all(
    DEFAULTS_NAMESPACES.map((namespace) =>
      callIfFound(
        `reading ConfigMap ${namespace}/${DEFAULTS_CONFIG_MAP}`,
        core.readNamespacedConfigMap({ namespace, name: DEFAULTS_CONFIG_MAP }),
      ),
    ),
  );
  return Object.fromEntries(found.toReversed().flatMap((map) => Object.entries(map?.data ?? {})));
}
