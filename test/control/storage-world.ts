/** What tests do to storage's configuration as an administrator, and how they read what was made of it. */
import { randomUUID } from 'node:crypto';
import { ApiextensionsV1Api, CustomObjectsApi, KubeConfig, StorageV1Api } from '@kubernetes/client-node';
import { MERGE_PATCH } from '../../activities/kubernetes/client.js';
import type { CdiConfig, StorageProfile } from '../../activities/kubernetes/objects.js';
import { eventually } from './support.js';

/** Group and version of CDI's objects. */
export const CDI = { group: 'cdi.kubevirt.io', version: 'v1beta1' } as const;
const SNAPSHOT_CLASSES = {
  group: 'snapshot.storage.k8s.io',
  version: 'v1',
  plural: 'volumesnapshotclasses',
} as const;

type Plural = 'storageprofiles' | 'cdiconfigs' | 'cdis';

/** Storage's configuration behind this kubeconfig. */
export function createStorageWorld(kubeconfig: string) {
  const admin = new KubeConfig();
  admin.loadFromFile(kubeconfig);
  const custom = admin.makeApiClient(CustomObjectsApi);
  const storage = admin.makeApiClient(StorageV1Api);

  async function find<T>(plural: Plural, name: string): Promise<T | undefined> {
    const read = custom.getClusterCustomObject({ ...CDI, plural, name });
    return (await read.catch((error: { code?: number }) => {
      if (error.code === 404) return undefined;
      throw error;
    })) as T | undefined;
  }

  async function create(plural: Plural, kind: string, name: string, spec: object): Promise<void> {
    const body = { apiVersion: 'cdi.kubevirt.io/v1beta1', kind, metadata: { name }, spec };
    await custom.createClusterCustomObject({ ...CDI, plural, body });
  }

  async function patch(plural: Plural, name: string, body: object): Promise<void> {
    await custom.patchClusterCustomObject({ ...CDI, plural, name, body }, MERGE_PATCH);
  }

  async function patchProfileStatus(name: string, status: object): Promise<void> {
    const request = { ...CDI, plural: 'storageprofiles', name, body: { status } };
    await custom.patchClusterCustomObjectStatus(request, MERGE_PATCH);
  }

  async function remove(plural: Plural, name: string): Promise<void> {
    await custom.deleteClusterCustomObject({ ...CDI, plural, name });
  }

  /** The profile of this name once it has a status that looks right. */
  async function kept(
    name: string,
    look: (profile: StorageProfile) => boolean = () => true,
  ): Promise<StorageProfile> {
    return await eventually(`StorageProfile ${name}`, async () => {
      const profile = await find<StorageProfile>('storageprofiles', name);
      return profile?.status && look(profile) ? profile : undefined;
    });
  }

  /** CDIConfig once it has a status that looks right. */
  async function configured(what: string, look: (config: CdiConfig) => boolean): Promise<CdiConfig> {
    return await eventually(what, async () => {
      const config = await find<CdiConfig>('cdiconfigs', 'config');
      return config?.status && look(config) ? config : undefined;
    });
  }

  async function makeClass(provisioner: string, name = `c-${randomUUID().slice(0, 8)}`): Promise<string> {
    await storage.createStorageClass({ body: { metadata: { name }, provisioner } });
    return name;
  }

  /** Serves VolumeSnapshotClasses, as the external snapshotter's definitions do. */
  async function serveSnapshotClasses(): Promise<void> {
    await admin
      .makeApiClient(ApiextensionsV1Api)
      .createCustomResourceDefinition({ body: snapshotDefinition() });
    await eventually('the API serves VolumeSnapshotClasses', async () =>
      Boolean(await custom.listClusterCustomObject(SNAPSHOT_CLASSES)),
    );
  }

  async function makeSnapshotClass(name: string, driver: string): Promise<void> {
    const body = {
      apiVersion: 'snapshot.storage.k8s.io/v1',
      kind: 'VolumeSnapshotClass',
      metadata: { name },
      driver,
      deletionPolicy: 'Delete',
    };
    await custom.createClusterCustomObject({ ...SNAPSHOT_CLASSES, body });
  }

  /** Name and version of every object that the control role keeps. */
  async function versions(): Promise<readonly string[]> {
    const plurals = ['storageprofiles', 'cdiconfigs'] as const;
    const lists = await Promise.all(
      plurals.map(async (plural): Promise<unknown> => {
        return await custom.listClusterCustomObject({ ...CDI, plural });
      }),
    );
    return (lists as { items: StorageProfile[] }[])
      .flatMap(({ items }) => items)
      .map(({ metadata }) => `${metadata?.name} ${metadata?.resourceVersion}`);
  }

  return {
    storage,
    find,
    create,
    patch,
    patchProfileStatus,
    remove,
    kept,
    configured,
    makeClass,
    serveSnapshotClasses,
    makeSnapshotClass,
    versions,
  };
}

/** The sets of the status as one line: `ReadWriteOnce/Filesystem`. */
export function setsOf({ status }: StorageProfile): string {
  return (status?.claimPropertySets ?? [])
    .map((set) => `${set.accessModes?.join()}/${set.volumeMode}`)
    .join(' ');
}

/** Reasons of the conditions, by type. */
export function reasonsOf({ status }: StorageProfile): Readonly<Record<string, string | undefined>> {
  return Object.fromEntries((status?.conditions ?? []).map(({ type, reason }) => [type, reason]));
}

/** The definition as far as a profile needs it. */
function snapshotDefinition() {
  const { group, plural } = SNAPSHOT_CLASSES;
  const text = { type: 'string' };
  const schema = {
    openAPIV3Schema: { type: 'object', properties: { driver: text, deletionPolicy: text } },
  };
  return {
    metadata: {
      name: `${plural}.${group}`,
      annotations: {
        'api-approved.kubernetes.io': 'https://github.com/kubernetes-csi/external-snapshotter/pull/814',
      },
    },
    spec: {
      group,
      scope: 'Cluster',
      names: { kind: 'VolumeSnapshotClass', plural, singular: 'volumesnapshotclass' },
      versions: [{ name: 'v1', served: true, storage: true, schema }],
    },
  };
}
