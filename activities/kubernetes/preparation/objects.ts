/** The objects that `prepareStorage` reads and makes, as far as it does: raw JSON, times as strings. */
import type { V1Affinity, V1Toleration } from '@kubernetes/client-node';
import type { NodeStatus } from '../../types/preparation.js';
import type { LabelSelector } from '../label-selector.js';

/** Metadata of an object without a namespace. */
export interface ClusterMeta {
  readonly name: string;
  readonly uid: string;
  readonly generation?: number;
  readonly resourceVersion?: string;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** `spec.workload` of a HostPathProvisioner. */
export interface WorkloadPlacement {
  readonly nodeSelector?: Readonly<Record<string, string>>;
  readonly affinity?: V1Affinity;
  readonly tolerations?: readonly V1Toleration[];
}

/** A HostPathProvisioner, as far as its preparation reads it. */
export interface WatchedProvisioner {
  readonly metadata: ClusterMeta;
  readonly spec?: {
    readonly pathConfig?: { readonly path?: string };
    readonly storagePools?: readonly {
      readonly name: string;
      readonly path: string;
      readonly pvcTemplate?: unknown;
    }[];
    readonly workload?: WorkloadPlacement | null;
  };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly nodes?: readonly NodeStatus[];
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
      readonly message?: string;
      readonly lastTransitionTime?: string;
    }[];
  };
}

/** API group of MachineConfig and MachineConfigPool; its labels and annotations begin with it. */
export const MACHINE_CONFIG_GROUP = 'machineconfiguration.openshift.io';
/** The one version of {@link MACHINE_CONFIG_GROUP}. */
export const MACHINE_CONFIG_VERSION = 'v1';
/** Label of a MachineConfig by which pools select it. */
export const ROLE_LABEL = `${MACHINE_CONFIG_GROUP}/role`;

/** A MachineConfig; of its Ignition configuration only the units are looked at. */
export interface MachineConfig {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: ClusterMeta;
  readonly spec?: {
    readonly config?: {
      readonly ignition?: { readonly version?: string };
      readonly systemd?: {
        readonly units?: readonly {
          readonly name: string;
          readonly enabled?: boolean;
          readonly contents?: string;
        }[];
      };
    };
  };
}

/** A MachineConfigPool (`vm-disks-docs.md` §(e4)). */
export interface MachineConfigPool {
  readonly metadata: ClusterMeta;
  readonly spec?: {
    readonly machineConfigSelector?: LabelSelector;
    readonly nodeSelector?: LabelSelector;
    readonly paused?: boolean;
    readonly configuration?: {
      readonly name?: string;
      readonly source?: readonly { readonly name?: string }[];
    };
  };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly configuration?: { readonly name?: string };
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
      readonly message?: string;
    }[];
    readonly machineCount?: number;
    readonly updatedMachineCount?: number;
  };
}
