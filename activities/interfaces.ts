/**
 * What workflows may ask of the world, one interface a task queue. Implementations: `kubernetes/` and `image/inspect.ts`
 * (control), `node/` (node), `image/transfer.ts` (transfer). Every activity is level-based: it may run twice, be killed half-way
 * and run on two workers at once.
 */
import type { PreparationControlActivities, PreparationNodeActivities } from './preparation-interfaces.js';
import type {
  FillTarget,
  LocalVolumeControlActivities,
  LocalVolumeNodeActivities,
  ReservedVolume,
} from './types/local-volumes.js';
import type {
  ClaimRef,
  ContentType,
  DataVolumeFacts,
  DataVolumeManifest,
  DataVolumeRef,
  DataVolumeStart,
  ImageFacts,
  ItemPage,
  KeptVolume,
  Missing,
  PlacementFacts,
  PoolFacts,
  PoolRef,
  PublishedVolume,
  ReleasedVolume,
  ReservedDirectory,
  StatusUpdate,
  TargetPlan,
  TransferInput,
  TransferResult,
  UnpublishedItem,
} from './types.js';
import type { BlankActivities } from './types/blank.js';
import type { CloneControlActivities, CloneNodeActivities } from './types/clone.js';
import type { CloneSourceActivities } from './types/clone-sources.js';
import type { ExamineActivities } from './types/operators.js';
import type { ProvisionActivities, VolumePlan } from './types/provision.js';
import type { ScratchActivities } from './types/scratch.js';
import type {
  UploadControlActivities,
  UploadNodeActivities,
  UploadTransferActivities,
} from './types/upload.js';

/** Task queue `dvflow`: Kubernetes and the probe of a source. */
export interface ControlActivities
  extends
    CloneControlActivities,
    CloneSourceActivities,
    PreparationControlActivities,
    ProvisionActivities,
    ScratchActivities,
    LocalVolumeControlActivities,
    UploadControlActivities {
  /** Namespace and name that a manifest's text (JSON or YAML) asks for; nothing is created. @throws {@link FailureType} `InvalidDataVolume` */
  nameDataVolume(input: { manifest: string }): Promise<{ readonly namespace: string; readonly name: string }>;
  /**
   * Reads the DataVolume, or creates it as `dvflow:temporal:<Temporal namespace>` from a manifest (object, JSON or YAML), marked
   * with this workflow's id. With `retry` it writes `dvflow.io/retried` first, then resets the phase.
   * @throws {@link FailureType} `InvalidDataVolume`, `NotAuthorized`, `ResourceExists`, `UnsupportedSource`, `ContentTypeNotSupported`,
   * `ExceededQuota`
   */
  openDataVolume(input: {
    start?: DataVolumeStart;
    manifest?: DataVolumeManifest | string;
  }): Promise<DataVolumeFacts>;
  /**
   * Decides, without allocating anything, what the claim will be: class, modes, sizes, pool, adoption (`cdi.md` §1.6, §6.4). The claim
   * of a volume that is kept for it with its data (`storage.checkStaticVolume`) it makes: nothing else is to be done for that.
   * @throws {@link FailureType} `StorageClassNotFound`, `IncompatiblePVC`, `ResourceExists`, `InvalidDataVolume`; `ContentTypeNotSupported`
   * for an archive on a Block volume
   */
  planTarget(input: { dataVolume: DataVolumeRef }): Promise<TargetPlan>;
  /**
   * Probes the source with the DataVolume's own credentials and makes the read plan; a plan that needs scratch space says why.
   * @throws {@link FailureType} `SourceNotFound`, `SourceForbidden`, `SourceCertificateInvalid`, `SourceNotAllowed`, `ImageInvalid`,
   * `ImageHostile`, `UnsupportedFormat`, `ContentTypeNotSupported`, `LargerPVCRequired`; retried: `SourceUnavailable`
   */
  inspectSource(input: {
    dataVolume: DataVolumeRef;
    target: TargetPlan;
    contentType?: ContentType;
  }): Promise<ImageFacts | Missing>;
  /**
   * Creates the user's claim Pending, with owner, annotations, labels and marks in one call, or returns the one an earlier attempt
   * made. `labels` are the image's: whatever else is on the claim goes before them. With `reserved` it names that volume.
   * @throws {@link FailureType} `ResourceExists`, `ExceededQuota` (retried)
   */
  ensureClaim(input: {
    dataVolume: DataVolumeRef;
    target: TargetPlan;
    labels?: Readonly<Record<string, string>>;
    reserved?: ReservedVolume;
  }): Promise<ClaimRef>;
  /** Takes over a claim that already holds the data: ownerReference, nothing else.
   * @throws {@link FailureType} `ResourceExists`, `ClaimLost` */
  adoptClaim(input: {
    dataVolume: DataVolumeRef;
    claimUid: string;
  }): Promise<ClaimRef & { readonly volume?: string }>;
  /** Nodes that the claim may use, by annotation, scheduler and topology; nothing is reserved.
   * @throws {@link FailureType} `ClaimLost` */
  listCandidates(input: { claim: ClaimRef; target: VolumePlan }): Promise<PlacementFacts>;
  /**
   * Answers a scheduler's choice that has no room: removes `selected-node`, event `InsufficientCapacity` with both figures. A node
   * that cannot be used at all is told as `unusable`, by an event `ProvisioningFailed`.
   */
  refuseSelectedNode(input: {
    claim: ClaimRef;
    node: string;
    roomBytes: number;
    requestBytes: number;
    unusable?: string;
  }): Promise<void>;
  /** Writes the Secret `transfer-<uid>` in `dvflow-transfers` from what the DataVolume names; replaces an older one. */
  copyCredentials(input: { dataVolume: DataVolumeRef }): Promise<Missing | { readonly missing?: never }>;
  /** Removes `transfer-<uid>`; absent is success. */
  deleteCredentials(input: { dataVolume: DataVolumeRef }): Promise<void>;
  /**
   * Creates the PersistentVolume with `claimRef.uid`, or hands a reserved one over to the claim; waits until the claim is Bound to
   * it, removes the marks of claim and volume. `preallocated` is told on the claim, as CDI does.
   * Whoever the volume was made for is `dataVolume`: for a plain claim the claim itself, here and wherever directories and volumes
   * are reserved, marked and removed.
   * @throws {@link FailureType} `ClaimLost`
   */
  publishVolume(input: {
    dataVolume: DataVolumeRef;
    claim: ClaimRef;
    target: VolumePlan;
    directory: FillTarget;
    preallocated?: boolean;
  }): Promise<PublishedVolume>;
  /**
   * Removes a PersistentVolume of this DataVolume that was made but whose claim never bound. `kept`: the claim is Bound to its volume,
   * so that the volume, and the data behind it, are its user's.
   */
  deleteUnpublishedVolume(input: {
    dataVolume: DataVolumeRef;
    claim: ClaimRef;
    /** The static volume that was filled: a claim that is Bound to another one of its name has nothing of ours. */
    volume?: ReservedVolume;
  }): Promise<KeptVolume | undefined>;
  /**
   * Whether the claim is still that one, alive, and not Bound before its disk is complete; and the static volume that is filled for it
   * still the one that was reserved.
   * @throws {@link FailureType} `ClaimLost`
   */
  confirmClaim(input: { claim: ClaimRef; volume?: ReservedVolume }): Promise<void>;
  /** Removes the claim by name and uid; absent or another uid is success. Never a claim that is Bound and published. */
  deleteClaim(input: { dataVolume: DataVolumeRef; claim: ClaimRef }): Promise<void>;
  /**
   * Applies phase, conditions, progress, annotations and the event; a DataVolume that is gone is success.
   * @throws {@link FailureType} `ResourceExists` for another phase of one that is `Failed`: its run was reset
   */
  recordStatus(input: StatusUpdate): Promise<{ readonly exists: boolean }>;
  /** Newest heartbeat of this workflow's transfer, for the deadline: bytes done, and when they last grew. */
  observeTransfer(input: { workflowId: string }): Promise<{ readonly bytes: number }>;
  /** What carries the unpublished mark in Kubernetes (claims, volumes, Secrets) and is old enough to be swept. */
  listUnpublished(input?: ItemPage): Promise<readonly UnpublishedItem[]>;
  /**
   * Of the given items, those for which all four conditions of `design.md` §6 hold, and with `published` those that a user has and only
   * the mark stayed on; asks Temporal and Kubernetes afresh. One that cannot be judged is left out, as long as others can.
   */
  judgeUnpublished(input: { items: readonly UnpublishedItem[] }): Promise<readonly UnpublishedItem[]>;
  /** Removes one claim, volume or Secret, by uid, or of a `published` volume the mark; absent is success. */
  removeUnpublished(input: { item: UnpublishedItem }): Promise<void>;
  /**
   * Nodes that have a node worker by Kubernetes' account (Ready or not), and the pools of all HostPathProvisioners; `placed`: the
   * nodes of a pool by its path, where the status of its HostPathProvisioner tells them.
   */
  listNodes(): Promise<{
    readonly nodes: readonly string[];
    readonly pools: readonly PoolRef[];
    readonly placed?: Readonly<Record<string, readonly string[]>>;
  }>;
  /**
   * Reads the PersistentVolume anew; neither member when it must not be reclaimed (not Released, Retain, not ours, other uid).
   * `waiting`: it is to go, but its node or pool does not exist, in words.
   */
  observeReleasedVolume(input: { name: string; uid: string }): Promise<{
    readonly volume?: ReleasedVolume;
    readonly waiting?: string;
  }>;
  /** Deletes the PersistentVolume object, by uid, after its data is gone. */
  deleteVolume(input: { name: string; uid: string }): Promise<void>;
  /** Event on a PersistentVolume: `VolumeFailedDelete`. */
  recordVolumeEvent(input: { name: string; uid: string; reason: string; message: string }): Promise<void>;
}

/** Task queue `dvflow-node-<node>`: short work on one node. */
export interface NodeActivities
  extends
    ExamineActivities,
    LocalVolumeNodeActivities,
    PreparationNodeActivities,
    BlankActivities,
    CloneNodeActivities,
    UploadNodeActivities {
  /**
   * Room in the pool now, `held` where the claim `of` a DataVolume has its reservation there. A look, which makes no books.
   * @throws {@link FailureType} `NoSpace` when the pool cannot be read; `NodeUnavailable` where it is not mounted
   */
  observePool(input: {
    pool: PoolRef;
    foreignBytes: number;
    of?: { dataVolume: DataVolumeRef; claim: ClaimRef };
  }): Promise<PoolFacts>;
  /**
   * Promises the bytes and makes the directory with its marker, in one step under the pool's lock. Called again for the same
   * DataVolume it returns what is there. Without room it answers `refused`.
   */
  reserveDirectory(input: {
    dataVolume: DataVolumeRef;
    claim: ClaimRef;
    pool: PoolRef;
    hostname: string;
    requestBytes: number;
    foreignBytes: number;
    workflowId: string;
  }): Promise<ReservedDirectory>;
  /**
   * Proves that `disk.img` is the finished one: record complete, size, owner, mode. Of an archive (`contentType`) the volume's
   * directory is looked at, and the record.
   * @throws {@link FailureType} `ImageInvalid`
   */
  verifyImage(input: {
    directory: FillTarget;
    transferred: TransferResult;
    contentType?: ContentType;
  }): Promise<void>;
  /** Removes marker and resume record; the promise stays with the directory. */
  publishDirectory(input: {
    directory: Pick<ReservedDirectory, 'pool' | 'directory' | 'dataVolume'> | ReservedVolume;
  }): Promise<void>;
  /** Removes directory, promise, record and marker of this DataVolume; absent is success, a published one is refused. */
  removeDirectory(input: { directory: ReservedDirectory }): Promise<void>;
  /**
   * Directories under these pools that carry the marker, and block volumes of the node that hold nothing; `judged`: paths of those
   * pools that this node is to have, for its metrics. What cannot be read is left out, and said in the node worker's log.
   * @throws {@link FailureType} as `observePool` where nothing can be read at all
   */
  listUnpublishedDirectories(
    input: {
      pools: readonly PoolRef[];
      judged?: readonly string[];
    } & ItemPage,
  ): Promise<readonly UnpublishedItem[]>;
  /** Removes one of them, if its marker is still there. */
  removeUnpublishedDirectory(input: { item: UnpublishedItem }): Promise<void>;
  /** Removes the data and the promise of a released volume: data before the PV object. */
  removeVolumeData(input: { volume: ReleasedVolume }): Promise<void>;
}

/** Task queue `dvflow-transfer-<node>`: slots are transfers at once. */
export interface TransferActivities extends BlankActivities, UploadTransferActivities {
  /**
   * Moves the image into `disk.img`, or an archive's files into the volume, in an unprivileged child process, resumes at the resume record, heartbeats
   * {@link TransferProgress}; no new write is issued 2 s after a cancel.
   * @throws {@link FailureType} every type of source and image, and `ScratchSpaceRequired` where an image turns out to need scratch
   * space and there is none; retried: `SourceUnavailable`, `SourceChanged`, `NoSpace`, `ScratchUnavailable`
   */
  transferImage(input: TransferInput): Promise<TransferResult>;
}
