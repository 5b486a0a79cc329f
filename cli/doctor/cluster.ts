/** Everything that the doctor asks Kubernetes, once, with the rights of whoever calls it. */
import type {
  KubeConfig,
  V1APIResourceList,
  V1CustomResourceDefinition,
  V1Node,
  V1PersistentVolume,
  V1StorageClass,
} from '@kubernetes/client-node';
import type { Config, DataSourceObject, DataVolumeObject, Profile, Provisioner } from './objects.js';
import { map, read, type Reading } from './reading.js';

/** A cluster as its API server tells it. */
export interface ClusterFacts {
  /** Address of the API server. */
  readonly server: string;
  /** `v1.35.4` */
  readonly version: Reading<string>;
  readonly crds: Reading<readonly V1CustomResourceDefinition[]>;
  /** Names of kinds that `cdi.kubevirt.io/v1beta1` and `hostpathprovisioner.kubevirt.io/v1beta1` serve. */
  readonly served: Reading<readonly string[]>;
  /** Names of ValidatingAdmissionPolicies that a binding enforces. */
  readonly policies: Reading<readonly string[]>;
  /** `namespace/name` of CDI's controller, which would serve the same objects. */
  readonly cdiDeployments: Reading<readonly string[]>;
  /** dvflow runs in the cluster, as `deploy/` has it. */
  readonly deployed: { readonly control: boolean; readonly node: boolean };
  readonly nodes: Reading<readonly V1Node[]>;
  readonly provisioners: Reading<readonly Provisioner[]>;
  readonly storageClasses: Reading<readonly V1StorageClass[]>;
  readonly profiles: Reading<readonly Profile[]>;
  readonly config: Reading<Config>;
  readonly dataVolumes: Reading<readonly DataVolumeObject[]>;
  readonly dataSources: Reading<readonly DataSourceObject[]>;
  readonly volumes: Reading<readonly V1PersistentVolume[]>;
}

const CDI = { group: 'cdi.kubevirt.io', version: 'v1beta1' } as const;
const HPP = { group: 'hostpathprovisioner.kubevirt.io', version: 'v1beta1' } as const;

/** Version of the API server: the question whether it answers at all. */
export async function readServer(kubeConfig: KubeConfig): Promise<Reading<string>> {
  const { VersionApi } = await import('../../activities/kubernetes/library.js');
  return map(
    await read(() => kubeConfig.makeApiClient(VersionApi).getCode()),
    ({ gitVersion }) => gitVersion,
  );
}

/** Reads all else at once; what is refused is told in its place. */
export async function readCluster(kubeConfig: KubeConfig, version: Reading<string>): Promise<ClusterFacts> {
  const k8s = await import('../../activities/kubernetes/library.js');
  const api = kubeConfig.makeApiClient.bind(kubeConfig);
  const custom = api(k8s.CustomObjectsApi);
  const core = api(k8s.CoreV1Api);
  const storage = api(k8s.StorageV1Api);
  const apps = api(k8s.AppsV1Api);
  const admission = api(k8s.AdmissionregistrationV1Api);
  const list = async <T>(where: { group: string; version: string; plural: string }): Promise<Reading<T[]>> =>
    map(
      await read<unknown>(() => custom.listClusterCustomObject(where)),
      (found) => (found as { items: T[] }).items,
    );
  const items = async <T>(question: () => Promise<{ items: T[] }>): Promise<Reading<T[]>> =>
    map(await read(question), (found) => found.items);
  const is = async (question: () => Promise<unknown>): Promise<boolean> =>
    (await read(question)).refused === undefined;
  const control = { namespace: 'dvflow', name: 'dvflow-control' };
  const node = { namespace: 'dvflow-nodes', name: 'dvflow-node' };
  const [crds, served, policies, cdi, isControl, isNode, nodes, provisioners] = await Promise.all([
    items(() => api(k8s.ApiextensionsV1Api).listCustomResourceDefinition()),
    read(async () => kindsOf([await custom.getAPIResources(CDI), await custom.getAPIResources(HPP)])),
    read(async () => boundPolicies((await admission.listValidatingAdmissionPolicyBinding()).items)),
    items(() => apps.listDeploymentForAllNamespaces({ fieldSelector: 'metadata.name=cdi-deployment' })),
    is(() => apps.readNamespacedDeployment(control)),
    is(() => apps.readNamespacedDaemonSet(node)),
    items(() => core.listNode()),
    list<Provisioner>({ ...HPP, plural: 'hostpathprovisioners' }),
  ]);
  const [storageClasses, profiles, config, dataVolumes, dataSources, volumes] = await Promise.all([
    items(() => storage.listStorageClass()),
    list<Profile>({ ...CDI, plural: 'storageprofiles' }),
    read(
      async () =>
        (await custom.getClusterCustomObject({ ...CDI, plural: 'cdiconfigs', name: 'config' })) as Config,
    ),
    list<DataVolumeObject>({ ...CDI, plural: 'datavolumes' }),
    list<DataSourceObject>({ ...CDI, plural: 'datasources' }),
    items(() => core.listPersistentVolume()),
  ]);
  return {
    server: kubeConfig.getCurrentCluster()?.server ?? '',
    version,
    crds,
    served,
    policies,
    cdiDeployments: map(cdi, (found) =>
      found.map(({ metadata }) => `${metadata?.namespace}/${metadata?.name}`),
    ),
    deployed: { control: isControl, node: isNode },
    nodes,
    provisioners,
    storageClasses,
    profiles,
    config,
    dataVolumes,
    dataSources,
    volumes,
  };
}

function kindsOf(lists: readonly V1APIResourceList[]): readonly string[] {
  return lists.flatMap(({ resources }) => resources.map(({ name }) => name));
}

function boundPolicies(
  bindings: readonly { spec?: { policyName?: string; validationActions?: string[] } }[],
): readonly string[] {
  return bindings
    .filter(({ spec }) => spec?.validationActions?.includes('Deny'))
    .map(({ spec }) => spec?.policyName ?? '');
}
