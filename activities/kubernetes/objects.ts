/** The custom resources that dvflow reads, as far as it reads them; their full schema is in `deploy/`. */
import type { V1OwnerReference, V1PersistentVolumeClaimSpec } from '@kubernetes/client-node';
import type { ContentType, Phase } from '../types.js';
import type { NodeStatus } from '../types/preparation.js';
import type { WorkloadPlacement } from './preparation/objects.js';

/** Metadata of a custom resource: raw JSON, times as strings. */
export interface ObjectMeta {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly resourceVersion?: string;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly ownerReferences?: readonly V1OwnerReference[];
}

/** `spec.source.http`, `cdi.md` §1.1. */
export interface HttpSource {
  readonly url: string;
  readonly secretRef?: string;
  readonly certConfigMap?: string;
  readonly extraHeaders?: readonly string[];
  readonly secretExtraHeaders?: readonly string[];
  readonly checksum?: string;
  readonly insecureSkipVerify?: boolean;
}

/** `spec.source.s3`; `checksum` is dvflow's own. */
export interface S3Source {
  readonly url: string;
  readonly secretRef?: string;
  readonly certConfigMap?: string;
  readonly checksum?: string;
}

/** `spec.source.gcs`; `checksum` is dvflow's own. */
export interface GcsSource {
  readonly url: string;
  readonly secretRef?: string;
  readonly checksum?: string;
}

/** `spec.source.registry`: `url` or `imageStream`; `checksum` is dvflow's own. */
export interface RegistrySource {
  readonly url?: string;
  readonly imageStream?: string;
  readonly pullMethod?: string;
  readonly secretRef?: string;
  readonly certConfigMap?: string;
  readonly checksum?: string;
  readonly platform?: { readonly architecture?: string };
}

/** A claim, snapshot or DataSource by name, as sources of clones are given. */
export interface NamespacedName {
  readonly namespace: string;
  readonly name: string;
}

/** The members of `spec.source` that a clone reads from. */
export interface CloneSources {
  readonly pvc?: NamespacedName;
  readonly snapshot?: NamespacedName;
}

/** The members of `spec.source` that an import reads from. */
export interface ImportSources {
  readonly http?: HttpSource;
  readonly s3?: S3Source;
  readonly gcs?: GcsSource;
  readonly registry?: RegistrySource;
}

/** `spec.pvc` and `spec.storage`; the second leaves out what the class knows. */
export type ClaimTemplate = Partial<
  Pick<
    V1PersistentVolumeClaimSpec,
    | 'accessModes'
    | 'dataSource'
    | 'dataSourceRef'
    | 'resources'
    | 'selector'
    | 'storageClassName'
    | 'volumeMode'
    | 'volumeName'
  >
>;

/** A DataVolume as the API server serves it. */
export interface DataVolume {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
  readonly spec: {
    readonly source?: ImportSources & CloneSources & Readonly<Record<string, unknown>>;
    readonly sourceRef?: { readonly kind: string; readonly name: string; readonly namespace?: string };
    readonly pvc?: ClaimTemplate;
    readonly storage?: ClaimTemplate;
    readonly contentType?: ContentType;
    readonly preallocation?: boolean;
  };
  readonly status?: DataVolumeStatus;
}

/** `status` of a DataVolume, `cdi.md` §1.2. */
export interface DataVolumeStatus {
  readonly phase?: Phase;
  readonly claimName?: string;
  readonly progress?: string;
  readonly restartCount?: number;
  readonly conditions?: readonly DataVolumeCondition[];
}

/** One of CDI's conditions with its times (RFC 3339, whole seconds). */
export interface DataVolumeCondition {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
  readonly lastTransitionTime: string;
  readonly lastHeartbeatTime: string;
}

/** What a DataSource names: at most one of the three. */
export interface DataSourceSource extends CloneSources {
  readonly dataSource?: NamespacedName;
}

/** A DataSource as the API server serves it, `cdi.md` §1.9; its status is no subresource. */
export interface DataSource {
  readonly metadata: ObjectMeta;
  readonly spec: { readonly source: DataSourceSource };
  readonly status?: {
    /** What is cloned, with other DataSources resolved; empty while the DataSource is not ready. */
    readonly source?: DataSourceSource;
    readonly conditions?: readonly DataVolumeCondition[];
  };
}

/** What `spec` of CDIConfig and `spec.config` of a CDI say, as far as dvflow asks it; anything else is kept as it is. */
export interface CdiConfigSpec {
  readonly featureGates?: readonly string[];
  readonly filesystemOverhead?: FilesystemOverhead;
  readonly preallocation?: boolean;
  readonly importProxy?: ImportProxy;
  /** `host[:port]` of registries that need not prove who they are. */
  readonly insecureRegistries?: readonly string[];
  /** Class of scratch space, if there is one of that name. */
  readonly scratchSpaceStorageClass?: string;
  readonly podResourceRequirements?: ResourceRequirements;
  readonly imagePullSecrets?: readonly { readonly name?: string }[];
  /** Goes before where the gateway is known to be reached. */
  readonly uploadProxyURLOverride?: string;
}

/** The cluster-scoped object `config` of CDI. */
export interface CdiConfig {
  readonly metadata?: Partial<ObjectMeta>;
  readonly spec?: CdiConfigSpec;
  /** What holds, computed from the specification and the cluster. */
  readonly status?: {
    readonly filesystemOverhead?: FilesystemOverhead;
    readonly preallocation?: boolean;
    readonly importProxy?: ImportProxy;
    /** Empty where the specification names none, or one that does not exist. */
    readonly scratchSpaceStorageClass?: string;
    readonly defaultPodResourceRequirements?: ResourceRequirements;
    /** Host or URL to which virtctl sends uploads. */
    readonly uploadProxyURL?: string;
    readonly imagePullSecrets?: readonly { readonly name?: string }[];
  };
}

/** A CDI: the installation, and the home of the configuration where there is one. */
export interface Cdi {
  readonly metadata: ObjectMeta;
  readonly spec?: { readonly config?: CdiConfigSpec };
  readonly status?: CdiStatus;
}

/** Status of an installation, which scripts wait for. */
export interface CdiStatus {
  readonly phase?: string;
  readonly operatorVersion?: string;
  readonly targetVersion?: string;
  readonly observedVersion?: string;
  readonly conditions?: readonly DataVolumeCondition[];
}

/** Quantities by resource, as a pod asks for them. */
export interface ResourceRequirements {
  readonly limits?: Readonly<Record<string, string | number>>;
  readonly requests?: Readonly<Record<string, string | number>>;
}

/** CDI's `importProxy`; the addresses may hold credentials. */
export interface ImportProxy {
  readonly HTTPProxy?: string;
  readonly HTTPSProxy?: string;
  readonly noProxy?: string;
  /** ConfigMap with authorities that are trusted besides the system's: for the proxies, and for all sources. */
  readonly trustedCAProxy?: string;
}

/** Parts of a volume that its file system needs: `0.06` for 6 %. */
export interface FilesystemOverhead {
  readonly global?: string;
  readonly storageClass?: Readonly<Record<string, string>>;
}

/** CDI's ways to clone a volume. */
export type CloneStrategy = 'copy' | 'snapshot' | 'csi-clone';

/** Modes that claims of a class may ask for together; CDI's `ClaimPropertySet`. */
export interface ClaimPropertySet {
  readonly accessModes?: readonly string[];
  readonly volumeMode?: string;
}

/** What holds, or what an operator knows better, about claims of a class. */
interface StorageProfileFields {
  readonly claimPropertySets?: readonly ClaimPropertySet[];
  readonly cloneStrategy?: CloneStrategy;
  readonly dataImportCronSourceFormat?: 'pvc' | 'snapshot';
  readonly snapshotClass?: string;
}

/** A StorageProfile, `cdi.md` §1.8; one for each StorageClass, of the same name. */
export interface StorageProfile {
  readonly metadata?: Partial<ObjectMeta>;
  readonly spec?: StorageProfileFields;
  readonly status?: StorageProfileFields & {
    readonly storageClass?: string;
    readonly provisioner?: string;
    readonly conditions?: readonly DataVolumeCondition[];
  };
}

/** A HostPathProvisioner; `useNamingPrefix` is a boolean or, in old manifests, a string. */
export interface HostPathProvisioner {
  readonly metadata: { readonly name: string };
  readonly spec?: {
    readonly pathConfig?: PoolConfig & { readonly useNamingPrefix?: boolean | string };
    readonly storagePools?: readonly (PoolConfig & { readonly name?: string })[];
    readonly workload?: WorkloadPlacement | null;
  };
  readonly status?: { readonly nodes?: readonly NodeStatus[] };
}

/** What both kinds of pools have. */
export interface PoolConfig {
  readonly path?: string;
  /** dvflow's own: how many times its capacity a pool may promise. @default 1 */
  readonly overcommit?: number;
}
