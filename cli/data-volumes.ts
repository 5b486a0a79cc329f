import type { ConfigurationOptions, KubeConfig } from '@kubernetes/client-node';

/** A DataVolume as far as the program shows it. */
export interface DataVolume {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly uid: string;
    readonly creationTimestamp: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly status?: {
    readonly phase?: string;
    readonly progress?: string;
    readonly restartCount?: number;
    readonly conditions?: readonly {
      readonly type: string;
      readonly reason?: string;
      readonly message?: string;
    }[];
  };
}

/** DataVolumes of one cluster. */
export interface DataVolumes {
  /** Without a namespace: of all. */
  list(namespace?: string): Promise<readonly DataVolume[]>;
  get(namespace: string, name: string): Promise<DataVolume>;
  create(namespace: string, manifest: object): Promise<DataVolume>;
  delete(namespace: string, name: string): Promise<void>;
}

const RESOURCE = { group: 'cdi.kubevirt.io', version: 'v1beta1', plural: 'datavolumes' } as const;

/** Opens the DataVolumes of a cluster with the rights of its user; `options` are those of each call that reads or creates one. */
export async function openDataVolumes(
  kubeConfig: KubeConfig,
  options?: ConfigurationOptions,
): Promise<DataVolumes> {
  const { CustomObjectsApi } = await import('../activities/kubernetes/library.js');
  const api = kubeConfig.makeApiClient(CustomObjectsApi);
  return {
    async list(namespace) {
      const answer: unknown =
        namespace === undefined
          ? await api.listClusterCustomObject(RESOURCE)
          : await api.listNamespacedCustomObject({ ...RESOURCE, namespace });
      return (answer as { items: DataVolume[] }).items;
    },
    async get(namespace, name) {
      const request = { ...RESOURCE, namespace, name };
      return (await api.getNamespacedCustomObject(request, options)) as DataVolume;
    },
    async create(namespace, body) {
      const request = { ...RESOURCE, namespace, body };
      return (await api.createNamespacedCustomObject(request, options)) as DataVolume;
    },
    async delete(namespace, name) {
      await api.deleteNamespacedCustomObject({ ...RESOURCE, namespace, name });
    },
  };
}
