/**
 * What `prepareStorage` and its activities tell each other: a HostPathProvisioner, the nodes that it chooses, what was done on each
 * of them, and how a MachineConfig rolls out. Small readonly records, as in `../types.ts`.
 */

/** One HostPathProvisioner, by identity; it has no namespace. */
export interface ProvisionerRef {
  readonly name: string;
  readonly uid: string;
}

/** A HostPathProvisioner's manifest as a person typed it. */
export interface HostPathProvisionerManifest {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: {
    readonly name?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: Readonly<Record<string, unknown>>;
}

/** What the watch starts a preparation with; the specification is read from the API server. */
export interface PreparationStart extends ProvisionerRef {
  /** Time of the last progress (ms since the epoch) that a run which continued as new hands on. */
  readonly progressAt?: number;
  /** What it has made: a cancel takes it back whichever run hears of it. */
  readonly made?: MadePreparation;
}

/** Names of objects that a run has made. */
export interface MadePreparation {
  readonly machineConfigs: readonly string[];
  readonly storageClasses: readonly string[];
}

/** The one argument of `prepareStorage`: from the watch a reference, from people and programs a manifest, or its JSON or YAML text. */
export type PreparationInput = PreparationStart | HostPathProvisionerManifest | string;

/** A directory that volumes are made in, on every node that takes part. */
export interface BackingDirectory {
  /** `storagePools[].name`; `legacy` for `pathConfig`, as hostpath-provisioner calls it. */
  readonly pool: string;
  /** Absolute, without `/` at the end. */
  readonly path: string;
}

/** A StorageClass that the annotation `dvflow.io/storage-class` asks for. */
export interface StorageClassRequest {
  readonly name: string;
  /** Name of the pool; `legacy` for `pathConfig`, whose class names none. */
  readonly pool: string;
}

/** What the specification of a HostPathProvisioner says. */
export interface ProvisionerFacts extends ProvisionerRef {
  /** `metadata.generation` of the specification that was read. */
  readonly generation: number;
  readonly directories: readonly BackingDirectory[];
  readonly storageClasses: readonly StorageClassRequest[];
  /** `dvflow.io/deadline` in ms: how long a run waits without any progress. @default 86_400_000 */
  readonly deadlineMs: number;
  /** Why nothing can be prepared before somebody changes the specification; absent where all is well. */
  readonly refused?: string;
}

/** A node that the workload placement chooses. */
export interface SelectedNode {
  readonly node: string;
  /** Who sets the label: the node's own worker, or a MachineConfig, because the node's operating system is RHCOS. */
  readonly labelledBy: 'node' | 'machineConfig';
}

/** The nodes that take part, and why others do not. */
export interface NodeSelection {
  readonly selected: readonly SelectedNode[];
  /** All nodes of the cluster. */
  readonly total: number;
  /** The cluster has MachineConfigs. */
  readonly machineConfigs: boolean;
  /** What an operator should know about the choice: `workload.affinity.podAffinity is not looked at`. */
  readonly notes: readonly string[];
  /** Nodes of RHCOS that nothing but a taint keeps out: what was made for them stays, until the placement itself says otherwise. */
  readonly repelled?: readonly string[];
  /** The HostPathProvisioner is not there any more; nothing else is said then. */
  readonly gone?: boolean;
}

/** SELinux on a node, as its kernel says. */
export type SelinuxMode = 'enforcing' | 'permissive' | 'disabled';

/** A backing directory as it is on one node. */
export interface BackingDirectoryFacts {
  readonly path: string;
  /** It was missing and has been made by this attempt. */
  readonly created: boolean;
  readonly selinux: SelinuxMode;
  /** Full context, `system_u:object_r:var_t:s0`; absent where the directory carries none. */
  readonly label?: string;
  /** A partition of the operating system that holds the directory too: `/var`. */
  readonly sharedWith?: string;
}

/** What labelling a tree has done so far; also its heartbeat details. */
export interface LabelProgress {
  /** Entries looked at, and entries whose label was changed; all calls for this tree together. */
  readonly examined: number;
  readonly changed: number;
  /** Directories too deep to enter. */
  readonly tooDeep: number;
  /** Name (latin1) of the last entry of the backing directory that is done with all below it; entries go in the order of their bytes. */
  readonly cursor?: string;
}

/** What one bounded call of labelling did. */
export interface LabelResult extends LabelProgress {
  /** The whole tree is done; else the next call goes on after `cursor`. */
  readonly complete: boolean;
}

/** The rule that a relabel of the file system goes by. */
export interface LabelRule {
  /** `unavailable`: this node has no `semanage`. */
  readonly rule: 'present' | 'added' | 'unavailable';
  readonly message: string;
}

/** The label as it was read back. */
export interface VerifiedDirectory {
  readonly path: string;
  readonly selinux: SelinuxMode;
  readonly label?: string;
  /** The directory exists, and its type is `container_file_t` or SELinux is disabled. */
  readonly labelled: boolean;
  /** Which label it has, which it needs. */
  readonly message: string;
}

/** A MachineConfig that labels the directories on the nodes of a pool. */
export interface PlannedMachineConfig {
  /** Object name: `50-set-selinux-for-<provisioner>-<role>`, or that of an administrator who made one before. */
  readonly name: string;
  /** MachineConfigPools whose nodes get it and are waited for. */
  readonly pools: readonly string[];
  /** Made by this run. */
  readonly created: boolean;
  /** Of somebody else, and it does the same: it is left alone. */
  readonly foreign: boolean;
}

/** What `ensureMachineConfigs` did. */
export interface MachineConfigsResult {
  readonly configs: readonly PlannedMachineConfig[];
  /** Nodes that no MachineConfig can reach, by name, and why. */
  readonly unreachable: Readonly<Record<string, string>>;
}

/** How far one MachineConfigPool is with the configuration. */
export interface PoolRollout {
  readonly pool: string;
  readonly state: 'rendering' | 'updating' | 'paused' | 'degraded' | 'done';
  /** In words: `pool worker: 1 of 3 nodes done; node w2 reboots`. */
  readonly message: string;
  /** Nodes of the pool that run the configuration. */
  readonly done: readonly string[];
  /** By node, for those that are not done: `reboots since …`, `degraded: <reason>`. */
  readonly nodes: Readonly<Record<string, string>>;
}

/** Conditions of a HostPathProvisioner. */
export interface ProvisionerCondition {
  readonly type: 'Available' | 'Progressing' | 'Degraded';
  readonly status: 'True' | 'False';
  readonly reason: string;
  readonly message: string;
}

/** One node in `status.nodes`. */
export interface NodeStatus {
  readonly name: string;
  readonly phase: 'Ready' | 'Progressing' | 'Degraded';
  readonly message: string;
}

/** One write of a HostPathProvisioner's status; its only author is its workflow. */
export interface PreparationStatusUpdate {
  readonly provisioner: ProvisionerRef;
  readonly generation: number;
  readonly conditions: readonly ProvisionerCondition[];
  readonly nodes: readonly NodeStatus[];
  /** Pools by name, for `status.storagePoolStatuses`; none for `pathConfig`. */
  readonly pools?: readonly string[];
}

/** Result of `prepareStorage`. */
export interface PreparationResult {
  readonly name: string;
  readonly nodes: readonly NodeStatus[];
  readonly machineConfigs: readonly string[];
  readonly storageClasses: readonly string[];
  /** The HostPathProvisioner is gone, and what had been made for it. */
  readonly removed?: RemovedPreparation;
}

/** What the removal of a HostPathProvisioner took with it. Directories and labels stay. */
export interface RemovedPreparation {
  readonly machineConfigs: readonly string[];
  /** MachineConfigPools that roll out once more. */
  readonly pools: readonly string[];
  readonly storageClasses: readonly string[];
}

/** What the query `status` of `prepareStorage` answers. */
export interface PreparationStatus {
  readonly name: string;
  readonly uid?: string;
  /** Step under way, in plain words. */
  readonly step: string;
  readonly conditions: readonly ProvisionerCondition[];
  readonly nodes: readonly NodeStatus[];
  /** What is waited for and since when (ISO 8601). */
  readonly waiting?: { readonly for: string; readonly since: string };
}
