/** Which StorageClass a claim gets, and what the modes are that a DataVolume leaves out (`design.md` §5, `cdi.md` §1.6). */
import type { V1StorageClass } from '@kubernetes/client-node';
import { permanentFailure } from '../failures.js';
import { callIfFound, listAll } from './client.js';
import type { Kubernetes } from './client.js';
import { CDI_GROUP, CDI_VERSION, OWN_NAMESPACE } from './names.js';
import type { CdiConfig, ClaimTemplate, StorageProfile } from './objects.js';

const DEFAULT_CLASS = 'storageclass.kubernetes.io/is-default-class';
/** The spelling of Kubernetes before 1.6, which it still honours. */
const DEFAULT_CLASS_BETA = 'storageclass.beta.kubernetes.io/is-default-class';
const DEFAULT_VIRT_CLASS = 'storageclass.kubevirt.io/is-default-virt-class';

/** ConfigMap that OpenShift's documents use to set modes per class. */
const DEFAULTS_CONFIG_MAP = 'kubevirt-storage-class-defaults';
const DEFAULTS_NAMESPACES = ['openshift-cnv', OWN_NAMESPACE];

/** Modes of a claim, all known. */
export interface ClaimModes {
  readonly accessModes: readonly string[];
  readonly volumeMode: 'Filesystem' | 'Block';
}

/**
 * The StorageClass that a claim names, or the default: for `storage` KubeVirt's default for disks first, then Kubernetes';
 * of several the newest, then the first by name.
 *
 * @throws {@link FailureType} `StorageClassNotFound`
 */
export async function chooseStorageClass(
  { storage }: Kubernetes,
  name: string | undefined,
  api: 'pvc' | 'storage',
): Promise<V1StorageClass> {
  if (name !== undefined) {
    const found = await callIfFound(`reading StorageClass ${name}`, storage.readStorageClass({ name }));
    if (!found) throw permanentFailure('StorageClassNotFound', `StorageClass "${name}" does not exist`);
    return found;
  }
  const classes = await listAll('listing StorageClasses', (page) => storage.listStorageClass(page));
  const chosen = defaultStorageClass(classes, api);
  if (chosen) return chosen;
  throw permanentFailure(
    'StorageClassNotFound',
    'the DataVolume names no storageClassName and the cluster has no default StorageClass: name one',
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
      .sort((a, b) => createdAt(b) - createdAt(a) || nameOf(a).localeCompare(nameOf(b)));
    if (newest) return newest;
  }
  return undefined;
}

const KUBERNETES_DEFAULTS = [DEFAULT_CLASS, DEFAULT_CLASS_BETA];

function createdAt({ metadata }: V1StorageClass): number {
  return metadata?.creationTimestamp?.getTime() ?? 0;
}

function nameOf({ metadata }: V1StorageClass): string {
  return metadata?.name ?? '';
}

/** CDI's cluster-wide settings; absent where nobody made them. */
export async function readCdiConfig({ custom }: Kubernetes): Promise<CdiConfig | undefined> {
  const found: unknown = await callIfFound(
    'reading CDIConfig config',
    custom.getClusterCustomObject({
      group: CDI_GROUP,
      version: CDI_VERSION,
      plural: 'cdiconfigs',
      name: 'config',
    }),
  );
  return found as CdiConfig | undefined;
}

/** The profile of a class; absent where nobody made one. */
export async function readStorageProfile(
  { custom }: Kubernetes,
  name: string,
): Promise<StorageProfile | undefined> {
  const found: unknown = await callIfFound(
    `reading StorageProfile ${name}`,
    custom.getClusterCustomObject({
      group: CDI_GROUP,
      version: CDI_VERSION,
      plural: 'storageprofiles',
      name,
    }),
  );
  return found as StorageProfile | undefined;
}

/** `kubevirt-storage-class-defaults`; empty where nobody made one. */
export async function readModeDefaults({ core }: Kubernetes): Promise<Readonly<Record<string, string>>> {
  for (const namespace of DEFAULTS_NAMESPACES) {
    const found = await callIfFound(
      `reading ConfigMap ${namespace}/${DEFAULTS_CONFIG_MAP}`,
      core.readNamespacedConfigMap({ namespace, name: DEFAULTS_CONFIG_MAP }),
    );
    if (found) return found.data ?? {};
  }
  return {};
}

/**
 * Completes the modes that `spec.storage` leaves out, each by itself: manifest, the ConfigMap's key of this class, the first set
 * of the profile that fits what is known, the ConfigMap's global key, `ReadWriteOnce` and `Filesystem`.
 */
export function completeModes(
  template: ClaimTemplate,
  storageClass: string,
  defaults: Readonly<Record<string, string>>,
  profile: StorageProfile | undefined,
): ClaimModes {
  const askedModes = template.accessModes?.length ? template.accessModes : undefined;
  const accessModes = askedModes ?? asList(defaults[`${storageClass}.accessMode`]);
  const volumeMode = template.volumeMode ?? defaults[`${storageClass}.volumeMode`];
  const fitting = profile?.status?.claimPropertySets?.find(
    (set) =>
      (!accessModes || accessModes.every((mode) => set.accessModes?.includes(mode))) &&
      (!volumeMode || set.volumeMode === volumeMode),
  );
  return {
    accessModes: accessModes ?? fitting?.accessModes ?? asList(defaults.accessMode) ?? ['ReadWriteOnce'],
    volumeMode: asVolumeMode(volumeMode ?? fitting?.volumeMode ?? defaults.volumeMode),
  };
}

function asList(mode: string | undefined): readonly string[] | undefined {
  return mode ? [mode] : undefined;
}

function asVolumeMode(mode: string | undefined): ClaimModes['volumeMode'] {
  return mode === 'Block' ? 'Block' : 'Filesystem';
}
