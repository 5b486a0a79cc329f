/** The vocabulary of volumes for plain claims: a volume is provisioned empty, without a DataVolume. */
import type { DataVolumeEvent } from './data-volume.js';
import type { ClaimRef, NodeCandidate, PoolFacts, PoolRef, TargetPlan } from './target.js';

/** What a volume of a hostpath class will be, whoever asks for it: a DataVolume's target, or a plain claim's volume. */
export type VolumePlan = Pick<
  TargetPlan,
  | 'storageClass'
  | 'provisioner'
  | 'reclaimPolicy'
  | 'waitForConsumer'
  | 'accessModes'
  | 'volumeMode'
  | 'requestBytes'
  | 'pool'
>;

/** What is to be done about a plain claim; exactly one member is there. */
export interface ClaimVerdict {
  /** A volume is to be made. */
  readonly plan?: VolumePlan;
  /** No volume of this provisioner will ever serve the claim, since its spec cannot change: the reason, said on the claim. */
  readonly refused?: string;
  /** Nothing is to be done: the claim is gone, has a volume, or waits for data. */
  readonly done?: string;
  /** What an administrator has to make first: a pool, a StorageClass. */
  readonly missing?: string;
}

/** The one argument of `provisionVolume`. */
export interface ProvisionInput extends ClaimRef {
  /** Time of the last progress (ms since the epoch) that a run which continued as new hands on. */
  readonly progressAt?: number;
}

/** Result of `provisionVolume`. */
export interface ProvisionResult {
  readonly provisioned: boolean;
  /** Name of the PersistentVolume. */
  readonly volume?: string;
  readonly node?: string;
  /** Why there is no volume, where there is none. */
  readonly reason?: string;
}

/** A pool on one node. */
export interface NodePool extends NodeCandidate {
  readonly pool: PoolRef;
}

/** A pool on one node, and what its worker says about it; absent where the node does not answer or has no such pool. */
export interface NodeCapacity extends NodePool {
  readonly facts?: PoolFacts;
}

/** Result of `publishCapacity`. */
export interface CapacityResult {
  readonly pools: readonly {
    readonly node: string;
    readonly pool: string;
    /** Absent where the node does not answer. */
    readonly roomBytes?: number;
    readonly promisedBytes?: number;
    readonly totalBytes?: number;
  }[];
}

/** Activities of task queue `dvflow` for plain claims, and for the room that the scheduler is told of. */
export interface ProvisionActivities {
  /**
   * Reads a plain claim and decides what its volume will be; says `Provisioning` or `ProvisioningFailed` on the claim, in the words
   * of Kubernetes' external provisioners.
   * @throws {@link FailureType} `ResourceExists` for a workflow of another id than the claim's
   */
  planVolume(input: { claim: ClaimRef }): Promise<ClaimVerdict>;
  /** Event on a claim; a claim whose namespace is gone is success. A workflow of another id than the claim's says nothing. */
  recordClaimEvent(input: { claim: ClaimRef; event: DataVolumeEvent }): Promise<void>;
  /** Every pool on every node that has a hostname. */
  listNodePools(): Promise<readonly NodePool[]>;
  /**
   * Makes the `CSIStorageCapacity` objects say what the nodes said: one for each class that the scheduler reads capacity of and
   * each node with its pool. Those of nodes that do not answer, and of what is gone, are removed.
   */
  publishCapacity(input: { capacities: readonly NodeCapacity[] }): Promise<void>;
}
