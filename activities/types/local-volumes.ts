/**
 * Static local volumes: PersistentVolumes that somebody made and no provisioner serves, whose `local.path` is a directory or a
 * block device of one node. Types of their import, and of the block volumes that dvflow itself makes over a file; types only.
 */
import type { DataVolumeRef } from './data-volume.js';
import type { ClaimRef, ReservedDirectory, TargetPlan } from './target.js';

/** A static local volume that is reserved for one DataVolume, by a `claimRef` to a claim that nobody creates. */
export interface ReservedVolume {
  readonly node: string;
  /** Value of `kubernetes.io/hostname` of the node. */
  readonly hostname: string;
  readonly dataVolume: DataVolumeRef;
  /** The PersistentVolume. */
  readonly volume: string;
  readonly volumeUid: string;
  /** Its own class, which the claim gets: `''` for a volume without one. */
  readonly storageClass: string;
  readonly volumeMode: 'Filesystem' | 'Block';
  /** Its `local.path`. */
  readonly path: string;
  /** What its object says, in bytes. */
  readonly capacityBytes: number;
  /** When it was reserved, or taken over by a later run; absent for one that is filled in place. */
  readonly reservedAt?: string;
  /**
   * Names the time for which it is held without a gap: who takes it over does not change it. What a node knows of another time is of no
   * use, since the volume may have been somebody else's in between. Of one that is filled in place the run. Absent: of a worker of before.
   */
  readonly tenure?: string;
}

/** What a lifecycle fills: a directory of a pool, or a volume that was there. */
export type FillTarget = ReservedDirectory | ReservedVolume;

/** Argument of `localBlockVolume`. */
export interface LocalBlockVolumeInput {
  /** Name of the PersistentVolume. @default `local-<node>-<eight random digits>` */
  readonly name?: string;
  /** Kubernetes node that it is made on. */
  readonly node: string;
  /** A Kubernetes quantity, or bytes; the device gets exactly this size, rounded up to 4096 bytes. */
  readonly size: string | number;
  /** A class that no provisioner serves. @default 'local' */
  readonly storageClassName?: string;
  /** Path of the pool that gets the file. @default the first pool of all HostPathProvisioners, by name */
  readonly pool?: string;
  /** Allocates every block of the file now. @default false: blocks are allocated when they are written */
  readonly preallocation?: boolean;
  /** Labels of the PersistentVolume, for selectors. */
  readonly labels?: Readonly<Record<string, string>>;
}

/** A block volume to be made, judged against the cluster. */
export interface LocalVolumePlan {
  readonly name: string;
  readonly node: string;
  /** Value of `kubernetes.io/hostname`, for the PersistentVolume's nodeAffinity. */
  readonly hostname: string;
  readonly pool: string;
  /** Size of file, device and PersistentVolume. */
  readonly bytes: number;
  readonly storageClass: string;
  readonly preallocation: boolean;
  readonly labels: Readonly<Record<string, string>>;
  /** Bytes that volumes not made by dvflow occupy or promise in this pool on this node. */
  readonly foreignBytes: number;
  /** Of the pool: so many times its bytes are promised. @default 1 */
  readonly overcommit?: number;
  /** The PersistentVolume is there already, made by an earlier run from the same argument. */
  readonly exists: boolean;
}

/** A loop device over a file of its own. */
export interface LoopVolume {
  /** Path of the device that stays the same over reboots: what `local.path` says. */
  readonly path: string;
  /** Its size, as the kernel says it. */
  readonly bytes: number;
  /** It reads and writes past the page cache; not every file system can. */
  readonly directIo: boolean;
  /** There was not enough room: both figures, and nothing was made. */
  readonly refused?: { readonly roomBytes: number; readonly requestBytes: number };
}

/** A block volume of dvflow's that is to go, out of reach of every claim. */
export interface RetiredVolume {
  readonly name: string;
  /** Absent where the object is gone already. */
  readonly uid?: string;
  readonly node: string;
  /** The pool that holds its file, where the object says so. */
  readonly pool?: string;
}

/** Input of `removeLoopVolume`. */
export interface RemoveLoopVolume {
  readonly name: string;
  /** Where its file is, for a node worker that has lost what it remembered. */
  readonly pool?: string;
  /** Only what this run has made, and no other run goes on from. */
  readonly madeBy?: string;
}

/** Result of `localBlockVolume`. */
export interface LocalBlockVolumeResult {
  /** Name of the PersistentVolume. */
  readonly volume: string;
  readonly node: string;
  /** `local.path`. */
  readonly path: string;
  readonly bytes: number;
  readonly directIo: boolean;
}

/** None fits now. */
export interface NoVolume {
  /** Why. */
  readonly waitFor: string;
  /** One is kept for the claim as it is, which was not there when the claim was planned. @default false */
  readonly kept?: boolean;
}

/** Local volumes, task queue `dvflow`. */
export interface LocalVolumeControlActivities {
  /**
   * Chooses an Available volume by selector, class, size, modes, node and `volumeName`, and reserves it; one that is reserved for
   * this DataVolume already is returned, and one that is kept for the claim as it is never chosen.
   * @throws {@link FailureType} `IncompatiblePVC` where the volume that the DataVolume names can never serve it
   */
  reserveVolume(input: { dataVolume: DataVolumeRef; target: TargetPlan }): Promise<ReservedVolume | NoVolume>;
  /**
   * Takes a reserved volume out of reach of the user's claim, so that it can be emptied. Absent: this DataVolume has none, or its
   * claim is Bound to a complete disk. `waiting`: it stays reserved, since it cannot be emptied now, and why.
   * @throws {@link FailureType} retried: `KubernetesUnavailable` while the DataVolume's claim is still there
   */
  withdrawVolume(input: {
    dataVolume: DataVolumeRef;
    /** Only if no run has taken it over since. */
    reservedAt?: string;
  }): Promise<{ readonly volume?: ReservedVolume; readonly waiting?: string }>;
  /** Makes an emptied volume what it was before it was reserved: Available, with its own policy. */
  releaseVolume(input: { volume: ReservedVolume }): Promise<void>;
  /**
   * Judges what is asked for; nothing is made.
   * @throws {@link FailureType} `InvalidLocalVolume`, `StorageClassNotFound`, `ResourceExists`
   */
  planLocalVolume(input: { volume: LocalBlockVolumeInput; name: string }): Promise<LocalVolumePlan>;
  /** Creates the PersistentVolume, or finds the one that an earlier attempt made. @throws {@link FailureType} `ResourceExists` */
  createLocalVolume(input: { plan: LocalVolumePlan; device: LoopVolume }): Promise<void>;
  /**
   * Puts a block volume of dvflow's out of reach of every claim, for good. With `madeBy` only one that this run has made, whose
   * object is removed at once. Absent: there is none; with `node` its file may still be there.
   * @throws {@link FailureType} `ResourceExists` while it is bound or reserved, and for a volume that dvflow did not make
   */
  retireLocalVolume(input: {
    name: string;
    node?: string;
    madeBy?: string;
  }): Promise<{ readonly volume?: RetiredVolume }>;
}

/** Local volumes, task queue `dvflow-node-<node>`. */
export interface LocalVolumeNodeActivities {
  /**
   * Opens the way for a transfer into a reserved volume: proves that it is what its object says and that nobody uses it, and makes
   * the private directory of the resume record. Nothing in the volume changes.
   * @throws {@link FailureType} `IncompatiblePVC`, `VolumeTooSmall`, `ResourceExists` (in use, or an archive's target is not empty),
   * `NotAuthorized`; retried: `NodeUnavailable` while its path does not exist
   */
  prepareVolume(input: {
    volume: ReservedVolume;
    claim: ClaimRef;
    requestBytes: number;
    archive: boolean;
  }): Promise<void>;
  /** Removes what a transfer wrote into a reserved volume, and its record; a device reads as zeros afterwards. Heartbeats. */
  emptyReservedVolume(input: { volume: ReservedVolume }): Promise<void>;
  /**
   * Makes a file of exactly this size in the pool, with a promise, and a loop device over it. Without room it answers `refused`.
   * With `exists` the file is what the PersistentVolume stands for: its device is made where it is missing, the file never.
   * @throws {@link FailureType} `NotAuthorized` without root; `ResourceExists` where the file is an earlier volume's; `NoSpace`
   */
  createLoopVolume(input: { plan: LocalVolumePlan }): Promise<LoopVolume>;
  /**
   * Detaches the device and removes file and promise; absent is success, and said (not by an older worker). With `madeBy` only what this run
   * alone has made.
   * @throws {@link FailureType} `ResourceExists` while in use; retried: `NodeUnavailable` while the pool is not mounted
   */
  removeLoopVolume(input: RemoveLoopVolume): Promise<{ readonly found: boolean } | undefined>;
}
