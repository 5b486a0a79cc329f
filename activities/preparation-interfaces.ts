/** What `prepareStorage` may ask of the world; parts of the two queues of `interfaces.ts`. */
import type { DataVolumeEvent, PoolRef } from './types.js';
import type {
  BackingDirectoryFacts,
  HostPathProvisionerManifest,
  LabelProgress,
  LabelResult,
  LabelRule,
  MachineConfigsResult,
  MadePreparation,
  NodeSelection,
  PlannedMachineConfig,
  PoolRollout,
  PreparationStatusUpdate,
  ProvisionerFacts,
  ProvisionerRef,
  RemovedPreparation,
  SelectedNode,
  VerifiedDirectory,
} from './types/preparation.js';

/** Task queue `dvflow`. */
export interface PreparationControlActivities {
  /**
   * Reads the HostPathProvisioner, or creates it as `dvflow:temporal:<Temporal namespace>` from a manifest (object, JSON or YAML),
   * marked with this workflow's id. Without a `provisioner` in the answer it is gone.
   * @throws {@link FailureType} `InvalidHostPathProvisioner`, `NotAuthorized`, `ResourceExists`
   */
  openHostPathProvisioner(input: {
    ref?: ProvisionerRef;
    manifest?: HostPathProvisionerManifest | string;
  }): Promise<{ readonly provisioner?: ProvisionerFacts }>;
  /** Nodes that a DaemonSet with the placement of `spec.workload` would run on, and what each of them runs. */
  selectNodes(input: { provisioner: ProvisionerRef }): Promise<NodeSelection>;
  /**
   * Makes sure that a MachineConfig labels the directories on these nodes, one for each role that their MachineConfigPools select,
   * and removes those of this HostPathProvisioner that are not needed any more, but for those of pools with a `repelled` node.
   * @throws {@link FailureType} `ResourceExists` where somebody else's object has the name, or its unit has and does less
   */
  ensureMachineConfigs(input: {
    provisioner: ProvisionerFacts;
    nodes: readonly string[];
    repelled?: readonly string[];
  }): Promise<MachineConfigsResult>;
  /**
   * Looks at the pools until their rollout differs from `known`, at most `waitMs`; without `known` it answers at once. Heartbeats.
   */
  awaitRollout(input: {
    configs: readonly PlannedMachineConfig[];
    known?: readonly PoolRollout[];
    waitMs?: number;
  }): Promise<readonly PoolRollout[]>;
  /**
   * Makes the StorageClasses that are asked for, and removes those made for this HostPathProvisioner that no longer are.
   * @throws {@link FailureType} `ResourceExists` where a class of that name has another provisioner or pool
   */
  ensureStorageClasses(input: { provisioner: ProvisionerFacts }): Promise<{
    readonly classes: readonly string[];
    readonly created: readonly string[];
  }>;
  /** Writes conditions, nodes and observed generation; a HostPathProvisioner that is gone is success. */
  recordPreparation(input: PreparationStatusUpdate): Promise<{ readonly exists: boolean }>;
  /** Says something about a HostPathProvisioner, be it gone. */
  recordPreparationEvent(input: { provisioner: ProvisionerRef; event: DataVolumeEvent }): Promise<void>;
  /**
   * Removes what was made for a HostPathProvisioner in Kubernetes; where `only` is given, of that and of what this run has made.
   * Absent is success.
   * @throws {@link FailureType} `InvalidHostPathProvisioner` without `only` while one of that uid lives
   */
  removePreparation(input: {
    provisioner: ProvisionerRef;
    only?: MadePreparation;
  }): Promise<RemovedPreparation>;
  /** Every HostPathProvisioner that is not being deleted. */
  listHostPathProvisioners(): Promise<readonly ProvisionerRef[]>;
  /** Tells the run of a HostPathProvisioner to look again, or starts one, unless a person has stopped the last. */
  recheckPreparation(input: { provisioner: ProvisionerRef }): Promise<void>;
}

/** Task queue `dvflow-node-<node>`. */
export interface PreparationNodeActivities {
  /**
   * Makes the backing directory of a pool where it is missing, and says what it is; of RHCOS nodes (`labelledBy`) it makes none.
   * The metrics of pools hear of it (`dvflow_pool_shared_with_os`).
   * @throws {@link FailureType} retried: `NodeUnavailable`, `PermissionDenied`
   */
  ensureBackingDirectory(
    input: { pool: Pick<PoolRef, 'path'> } & Pick<SelectedNode, 'labelledBy'>,
  ): Promise<BackingDirectoryFacts>;
  /**
   * Gives the tree the type `container_file_t` where it has another; user, role and level stay. Bounded: at most about a million
   * entries a call, and the next call goes on where this one ended. Heartbeats {@link LabelProgress}.
   * @throws {@link FailureType} retried: `PermissionDenied`, `NodeUnavailable`
   */
  labelBackingDirectory(input: { path: string; after?: LabelProgress }): Promise<LabelResult>;
  /** Adds the rule by which a relabel of the file system keeps the label, where the node has `semanage`. */
  ensureLabelRule(input: { path: string }): Promise<LabelRule>;
  /** Reads the label back from the directory itself. */
  verifyBackingDirectory(input: { path: string }): Promise<VerifiedDirectory>;
}
