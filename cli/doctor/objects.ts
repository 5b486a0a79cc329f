/** Custom resources as far as the doctor looks at them. */

/** Metadata of an object. */
export interface Meta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly generation?: number;
  readonly creationTimestamp?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A condition in a status. */
export interface StatusCondition {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
  readonly lastTransitionTime?: string;
}

/** A HostPathProvisioner with its status. */
export interface Provisioner {
  readonly metadata: Meta;
  readonly spec?: {
    readonly pathConfig?: { readonly path?: string };
    readonly storagePools?: readonly { readonly name: string; readonly path: string }[];
  };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly conditions?: readonly StatusCondition[];
    readonly nodes?: readonly { readonly name: string; readonly phase: string; readonly message: string }[];
  };
}

/** CDI's configuration. */
export interface Config {
  readonly spec?: { readonly scratchSpaceStorageClass?: string; readonly featureGates?: readonly string[] };
  readonly status?: {
    readonly scratchSpaceStorageClass?: string;
    readonly filesystemOverhead?: { readonly global?: string };
  };
}

/** What CDI knows about a StorageClass. */
export interface Profile {
  readonly metadata: Meta;
  readonly status?: {
    readonly claimPropertySets?: readonly {
      readonly accessModes?: readonly string[];
      readonly volumeMode?: string;
    }[];
  };
}

/** A DataVolume with its status. */
export interface DataVolumeObject {
  readonly metadata: Meta & { readonly namespace: string; readonly uid: string };
  readonly spec: Readonly<Record<string, unknown>>;
  readonly status?: {
    readonly phase?: string;
    readonly conditions?: readonly StatusCondition[];
  };
}

/** A DataSource with its status. */
export interface DataSourceObject {
  readonly metadata: Meta & { readonly namespace: string };
  readonly status?: { readonly conditions?: readonly StatusCondition[] };
}
