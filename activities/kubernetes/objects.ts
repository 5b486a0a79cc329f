/** The custom resources that dvflow reads, as far as it reads them; their full schema is in `deploy/`. */
import type { V1PersistentVolumeClaimSpec } from '@kubernetes/client-node';
import type { ContentType, Phase } from '../types.js';

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
    readonly source?: ImportSources & Readonly<Record<string, unknown>>;
    readonly sourceRef?: unknown;
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

/** The cluster-scoped object `config` of CDI, as far as an import asks it. */
export interface CdiConfig {
  readonly spec?: {
    readonly featureGates?: readonly string[];
    readonly filesystemOverhead?: FilesystemOverhead;
    readonly preallocation?: boolean;
    readonly importProxy?: ImportProxy;
    /** Class of scratch space, if there is one of that name. */
    readonly scratchSpaceStorageClass?: string;
    /** `host[:port]` of registries that need not prove who they are. */
    readonly insecureRegistries?: readonly string[];
  };
  readonly status?: {
    readonly filesystemOverhead?: FilesystemOverhead;
    readonly preallocation?: boolean;
    readonly importProxy?: ImportProxy;
  };
}

/** CDI's `importProxy`; the addresses may hold credentials. */
export interface ImportProxy {
  readonly HTTPProxy?: string;
  readonly HTTPSProxy?: string;
  readonly noProxy?: string;
  /** ConfigMap with the authorities that the proxies' certificates are verified by. */
  readonly trustedCAProxy?: string;
}

/** Parts of a volume that its file system needs: `0.06` for 6 %. */
export interface FilesystemOverhead {
  readonly global?: string;
  readonly storageClass?: Readonly<Record<string, string>>;
}

/** A StorageProfile, as far as left-out modes and sizes ask it. */
export interface StorageProfile {
  readonly metadata?: { readonly annotations?: Readonly<Record<string, string>> };
  readonly status?: {
    readonly claimPropertySets?: readonly {
      readonly accessModes?: readonly string[];
      readonly volumeMode?: string;
    }[];
  };
}

/** A HostPathProvisioner; `useNamingPrefix` is a boolean or, in old manifests, a string. */
export interface HostPathProvisioner {
  readonly metadata: { readonly name: string };
  readonly spec?: {
    readonly pathConfig?: { readonly path?: string; readonly useNamingPrefix?: boolean | string };
  };
}
