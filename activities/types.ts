/**
 * The vocabulary that workflows, activities, clients and tests share: types only, nothing here exists at run time.
 *
 * Names are CDI's, Kubernetes' and Temporal's. Everything that crosses a Temporal boundary is a small readonly JSON record
 * that never holds a credential: URLs are shown without user info and query (`displayUrl`), the rest travels in the Secret
 * `transfer-<uid>`.
 */
import type { CarriedUpload } from './types/upload.js';
import type { CloneInput, CloneStarted } from './types/clone.js';
import type { ScratchSpace } from './types/scratch.js';

import type { FillTarget } from './types/local-volumes.js';

/**
 * Why a run failed: the public contract of `docs/failures.md`, and the `type` of every `ApplicationFailure` that dvflow
 * throws. The first four groups are permanent (no retry cures them), the last is retried or waited for.
 */
export type FailureType = PermanentFailureType | TransientFailureType;

/** Failures that no retry cures; thrown `nonRetryable`. */
export type PermanentFailureType =
  // the request
  | 'InvalidDataVolume'
  | 'InvalidHostPathProvisioner'
  | 'UnsupportedSource'
  | 'UnsupportedFormat'
  | 'ContentTypeNotSupported'
  | 'IncompatibleVolumeModes'
  | 'NotAuthorized'
  | 'SourceNotAllowed'
  | 'InvalidLocalVolume'
  // the source
  | 'SourceNotFound'
  | 'SourceForbidden'
  | 'SourceCertificateInvalid'
  | 'ChecksumMismatch'
  | 'ImageInvalid'
  | 'ImageHostile'
  // the target
  | 'LargerPVCRequired'
  | 'StorageClassNotFound'
  | 'ClaimLost'
  | 'ResourceExists'
  | 'IncompatiblePVC'
  | 'VolumeTooSmall'
  | 'UploadTargetInUse'
  | 'ScratchSpaceRequired'
  // time
  | 'DeadlineExceeded';

/** Failures that are retried or waited for; the tenth barren attempt makes one permanent. */
export type TransientFailureType =
  | 'SourceUnavailable'
  | 'SourceChanged'
  | 'CloneSourceInUse'
  | 'UploadInProgress'
  | 'ExceededQuota'
  | 'NodeUnavailable'
  | 'PermissionDenied'
  | 'NoSpace'
  | 'ScratchUnavailable'
  | 'KubernetesUnavailable';

/** Phases of the lifecycles, as CDI spells them (`cdi.md` §1.2); `''` is the phase of a DataVolume that nobody has looked at. */
export type Phase =
  | ''
  | 'Pending'
  | 'WaitForFirstConsumer'
  | 'PVCBound'
  | 'ImportScheduled'
  | 'ImportInProgress'
  | 'UploadScheduled'
  | 'UploadReady'
  | 'CloneScheduled'
  | 'CloneInProgress'
  | 'Succeeded'
  | 'Failed'
  | 'Unknown';

/** The member of `spec.source` that a DataVolume uses; `external` stands for external population. */
export type SourceKind =
  | 'http'
  | 's3'
  | 'gcs'
  | 'registry'
  | 'upload'
  | 'pvc'
  | 'snapshot'
  | 'blank'
  | 'imageio'
  | 'vddk'
  | 'sourceRef'
  | 'external';

/** CDI's `spec.contentType`. */
export type ContentType = 'kubevirt' | 'archive';

/** One DataVolume, by identity. */
export interface DataVolumeRef {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** What the watch starts a lifecycle with; the spec is read from the API server. */
export interface DataVolumeStart extends DataVolumeRef {
  /** Value of `dvflow.io/retry` that this run answers; absent on a first run. */
  readonly retry?: string;
  /** Time of the last progress (ms since the epoch) that a run which continued as new hands on, so that its deadline goes on. */
  readonly progressAt?: number;
  /** Of an upload that continues as new: what has come so far. */
  readonly upload?: CarriedUpload;
  /** What a clone that continued as new hands on. */
  readonly clone?: CloneStarted;
}

/** A Kubernetes manifest as a person typed it; nothing is trusted before the API server has judged it. */
export interface DataVolumeManifest {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: {
    readonly name?: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: Readonly<Record<string, unknown>>;
}

/** The one argument of a lifecycle: from the watch a reference, from people and programs a manifest, or its JSON or YAML text. */
export type LifecycleInput = DataVolumeStart | DataVolumeManifest | string;

/** Facts about a DataVolume that a lifecycle decides by. */
export interface DataVolumeFacts extends DataVolumeRef {
  readonly source: SourceKind;
  /** Source address without user info and query; never enough to authenticate. */
  readonly displayUrl: string;
  readonly contentType: ContentType;
  /** Phase at the time of reading. */
  readonly phase: Phase;
  /** `dvflow.io/deadline` in ms. @default 86_400_000 */
  readonly deadlineMs: number;
  /** `dvflow.io/upload-spool`: an upload is kept as it comes in scratch space. @default false */
  readonly uploadSpool?: boolean;
  /** The terminal phase was reached by an earlier run and this start has nothing to do (a repeated retry). */
  readonly finished?: boolean;
}

/** A user's claim, by identity. */
export interface ClaimRef {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** How the target of a DataVolume will look; made before anything is allocated. */
export interface TargetPlan {
  /** `create`: dvflow makes the claim; `adopt`: an existing claim already holds the data (`cdi.md` §6.4); `wait`: prePopulated, its claim does not exist yet. */
  readonly claim: 'create' | 'adopt' | 'wait';
  /** uid of the claim to adopt. */
  readonly adoptUid?: string;
  readonly storageClass: string;
  readonly provisioner: string;
  readonly bindingMode: 'Immediate' | 'WaitForFirstConsumer';
  readonly reclaimPolicy: 'Delete' | 'Retain';
  /** Wait for the scheduler's node before anything is reserved (feature gate HonorWaitForFirstConsumer, no immediate-bind annotation). */
  readonly waitForConsumer: boolean;
  readonly accessModes: readonly string[];
  readonly volumeMode: 'Filesystem' | 'Block';
  /** The claim's storage request, in bytes. */
  readonly requestBytes: number;
  /** What `disk.img` may occupy: request after file system overhead, in bytes (`cdi.md` §2.10). */
  readonly usableBytes: number;
  /** File system overhead in force, for messages: `0.06`. */
  readonly overhead: number;
  /** `pvc` sizes are taken as they are, `storage` sizes are inflated by the overhead. */
  readonly api: 'pvc' | 'storage';
  readonly pool: PoolRef;
  readonly preallocation: boolean;
  /** The claim gets a volume that somebody made; `pool` is empty. @default false */
  readonly staticVolume?: boolean;
}

/** The directory under which a hostpath volume is made, from the HostPathProvisioner object. */
export interface PoolRef {
  /** Name by which the parameter `storagePool` of a StorageClass chooses it; `legacy` is that of `spec.pathConfig`. */
  readonly name?: string;
  /** `spec.pathConfig.path`, or `path` of one of `spec.storagePools`. */
  readonly path: string;
  /** Directory is `<claim name>-pvc-<claim uid>` instead of `pvc-<claim uid>`. */
  readonly useNamingPrefix: boolean;
  /** How many times its capacity the pool may promise. @default 1 */
  readonly overcommit?: number;
}

/** Secrets and ConfigMaps that a DataVolume names and that do not exist (yet): waited for. */
export interface Missing {
  /** `Secret team-a/basic-auth`. */
  readonly missing: readonly string[];
}

export type { FillTarget, ReservedVolume } from './types/local-volumes.js';

/** One compressor or archive around an image; `oci` is the container image that a registry serves. */
export type Container = 'gz' | 'xz' | 'zst' | 'zip' | 'tar' | 'oci';

/** What is inside of all containers. An ISO is a raw disk; `tar` is content type `archive`, which is unpacked. */
export type ImageFormat = 'raw' | 'qcow2' | ForeignFormat | 'tar';

/** Formats that `qemu-img` decodes, in a sandbox. */
export type ForeignFormat = 'vmdk' | 'vdi' | 'vhd' | 'vhdx';

/** What identifies one version of a source; compared before a resume. */
export interface SourceValidators {
  /** Strong or weak ETag as served. */
  readonly etag?: string;
  readonly lastModified?: string;
  /** Length of the representation in bytes, where the server says it. */
  readonly length?: number;
}

/** The read plan of `design.md` §7.1 and what the probe learnt. */
export interface ImageFacts {
  /** Without user info and query. */
  readonly displayUrl: string;
  readonly format: ImageFormat;
  /** Outermost first; empty for a plain image. */
  readonly containers: readonly Container[];
  /** Size the guest sees, in bytes; absent where only the whole stream tells (compressed raw). */
  readonly virtualSize?: number;
  /** Bytes of data in a qcow2 whose tables are small enough to look at, as stored. */
  readonly allocatedBytes?: number;
  readonly validators: SourceValidators;
  /** The server answers byte ranges. */
  readonly ranges: boolean;
  /**
   * `ranged`: guest-order windows by Range; `one-pass`: the stream from its start (over ranges where there are any); `qemu-img`:
   * decoded by qemu-img in a sandbox; `unpack`: an archive, file by file.
   */
  readonly plan: 'ranged' | 'one-pass' | 'qemu-img' | 'unpack';
  /**
   * `exact`: goes on at the last record; `reread`: source is read again, durable bytes are not written again; `restart`: starts over.
   */
  readonly resume: 'exact' | 'reread' | 'restart';
  /** Why the plan needs scratch space, where it does: the file inside the containers is kept there while it is read. */
  readonly scratch?: string;
  /** One sentence: which plan, whether scratch is needed, and why. */
  readonly reason: string;
  /** Kubernetes labels that a container image's `KUBEVIRT_IO_*` variables mean, a hundred at most; they go onto the claim. */
  readonly labels?: Readonly<Record<string, string>>;
}

/** A node that a volume could be made on. */
export interface NodeCandidate {
  readonly node: string;
  /** Value of `kubernetes.io/hostname`, for the PV's nodeAffinity. */
  readonly hostname: string;
  /** Bytes that volumes not made by dvflow occupy or promise in this pool on this node. */
  readonly foreignBytes: number;
}

/** Where a claim may go, decided from Kubernetes alone. */
export interface PlacementFacts {
  readonly candidates: readonly NodeCandidate[];
  /** `provisionOnNode`: the user's annotation; `selected-node`: the scheduler; `any`: dvflow chooses. */
  readonly chosenBy: 'provisionOnNode' | 'selected-node' | 'any';
  /** The node that was chosen, whether it is a candidate or not. */
  readonly named?: string;
  /** Why there is no candidate, where there is none. */
  readonly reason?: string;
}

/** What a live node worker says about its pool. */
export interface PoolFacts {
  readonly node: string;
  /** Bytes that can still be promised; see `activities/node/pool.ts`. */
  readonly roomBytes: number;
  readonly totalBytes: number;
  /** Bytes promised to volumes, whether used yet or not. */
  readonly promisedBytes: number;
  /** Bytes that the pool's file system has free now. */
  readonly availableBytes: number;
}

/** A directory reserved on a node for one DataVolume. */
export interface ReservedDirectory {
  readonly node: string;
  readonly hostname: string;
  readonly pool: string;
  /** Name under the pool: `pvc-<claim uid>` or `<claim>-pvc-<claim uid>`. */
  readonly directory: string;
  readonly dataVolume: DataVolumeRef;
  /** Bytes promised: the claim's request. */
  readonly promisedBytes: number;
  /** Not enough room: both figures, and nothing was made. */
  readonly refused?: { readonly roomBytes: number; readonly requestBytes: number };
}

/** Input of `transferImage`. The request itself (URL, headers, credentials, CA) is in the Secret `transfer-<uid>`. */
export interface TransferInput {
  readonly target: FillTarget;
  readonly image: ImageFacts;
  /** `archive`: unpacked into the volume, without a `disk.img`. @default 'kubevirt' */
  readonly contentType?: ContentType;
  /** `disk.img` gets this size, in bytes; what is unpacked of an archive fits into it. */
  readonly usableBytes: number;
  /** The claim, for messages. */
  readonly claim: ClaimRef;
  readonly preallocation: boolean;
  /** Room on this node for a second copy of the image; absent: an image that needs some is refused. */
  readonly scratch?: ScratchSpace;
  /** The volume that is read in place of an image. */
  readonly clone?: CloneInput;
}

/** Heartbeat details of `transferImage`: the one progress channel (`design.md` §5). */
export interface TransferProgress {
  readonly phase: 'starting' | 'transferring' | 'syncing' | 'verifying' | 'waiting';
  /** Bytes fetched from the source, all attempts together. */
  readonly bytesRead: number;
  /** Length of the source, where known. */
  readonly bytesReadTotal?: number;
  /** Bytes of data written to the target (zeros are not written). */
  readonly bytesWritten: number;
  /** Part of the work that is done, 0 to below 1; absent where no honest denominator exists. */
  readonly fraction?: number;
  /** Bytes fetched per second over the last seconds. */
  readonly rate: number;
  /** Temporal attempt. */
  readonly attempt: number;
  /** Attempts in a row that made no durable byte. */
  readonly barren: number;
  /** What is waited for or was said last: `reconnecting: connection reset`. */
  readonly message?: string;
}

/** What a finished transfer did. */
export interface TransferResult {
  /** Size the guest sees, in bytes; of an archive the bytes of its files. */
  readonly virtualSize: number;
  /** Size of `disk.img`, in bytes; 0 where an archive was unpacked. */
  readonly diskBytes: number;
  /** Bytes fetched from the source, all attempts together. */
  readonly bytesTransferred: number;
  readonly bytesWritten: number;
  /** `sha256:<hex>` of the source as served, where the DataVolume asked for one. */
  readonly checksum?: string;
  /** Guest offset or source offset from which the last attempt went on; 0 for a transfer in one attempt. */
  readonly resumedFrom: number;
  /** Attempts that it took; one more than CDI's `restartCount`. */
  readonly attempts?: number;
  readonly format: ImageFormat;
  /** Bytes that were kept in scratch space meanwhile. */
  readonly scratchBytes?: number;
}

/** What `publishVolume` made. */
export interface PublishedVolume {
  /** Name of the PersistentVolume. */
  readonly volume: string;
}

/** Answer of an undo that found its object in use: it is a user's, and stays. */
export interface KeptVolume {
  readonly kept: true;
}

/** Result of `importDataVolume`. */
export interface ImportResult {
  readonly claim: { readonly namespace: string; readonly name: string };
  /** Name of the PersistentVolume; absent for an adopted claim that is not bound yet. */
  readonly volume?: string;
  readonly node?: string;
  readonly virtualSize?: number;
  readonly bytesTransferred?: number;
  readonly bytesWritten?: number;
  readonly checksum?: string;
  /** Session of the upload that filled it: a client that has not heard its last answer asks by it. */
  readonly session?: string;
}

/** CDI's condition types (`cdi.md` §1.3). */
export interface Condition {
  readonly type: 'Ready' | 'Bound' | 'Running';
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
}

/** A Kubernetes event on the DataVolume. */
export interface DataVolumeEvent {
  readonly type: 'Normal' | 'Warning';
  readonly reason: string;
  readonly message: string;
}

/** One write of phase and conditions; its only author is the DataVolume's workflow. */
export interface StatusUpdate {
  readonly dataVolume: DataVolumeRef;
  readonly phase?: Phase;
  readonly claimName?: string;
  readonly conditions?: readonly Condition[];
  readonly event?: DataVolumeEvent;
  /** `N/A`, `45.30%`, `100.0%`. */
  readonly progress?: string;
  /** Attempts of the transfer after the first: CDI's `restartCount`. */
  readonly restartCount?: number;
  /** `cdi.kubevirt.io/storage.pod.phase` on the claim, for clients that read it. */
  readonly podPhase?: 'Pending' | 'Running' | 'Succeeded' | 'Failed';
  /** `cdi.kubevirt.io/storage.pod.ready` on the claim: whether an upload can begin. */
  readonly podReady?: boolean;
}

/** What the query `status` answers: the workflow's own facts. */
export interface LifecycleStatus {
  readonly namespace: string;
  readonly name: string;
  readonly uid?: string;
  readonly source?: SourceKind;
  readonly displayUrl?: string;
  readonly phase: Phase;
  /** Step under way, in plain words: `reserving a directory`. */
  readonly step: string;
  readonly conditions: readonly Condition[];
  readonly claim?: ClaimRef;
  readonly node?: string;
  /** Claim of scratch space, while there is one. */
  readonly scratch?: ClaimRef | undefined;
  readonly image?: ImageFacts;
  /** What is waited for and since when (ISO 8601). */
  readonly waiting?: { readonly for: string; readonly since: string };
  readonly failure?: { readonly type: string; readonly message: string };
}

/** Something unpublished that the sweeper found; see `design.md` §6. */
export interface UnpublishedItem {
  readonly kind: 'PersistentVolumeClaim' | 'PersistentVolume' | 'Secret' | 'Directory' | 'BlockVolume';
  /** Namespace of a claim or Secret; node of a directory or block volume. */
  readonly where: string;
  /** Object name; for a directory its name under the pool. */
  readonly name: string;
  /** uid of the object, so that a namesake made later is never removed; of a block volume the run that made it. */
  readonly objectUid?: string;
  readonly pool?: string;
  /** A static volume: it is emptied and given back, not removed. @default false */
  readonly reserved?: boolean;
  /** A user has it, and the mark only stayed: that is removed, nothing else. @default false */
  readonly published?: boolean;
  /** Value of `dvflow.io/unpublished`. */
  readonly dataVolume: DataVolumeRef;
  /** Value of `dvflow.io/workflow-id`. */
  readonly workflowId: string;
  /** ISO 8601. */
  readonly createdAt: string;
}

/** Identity of a released PersistentVolume that dvflow provisioned. */
export interface ReleasedVolume {
  readonly name: string;
  readonly uid: string;
  readonly node: string;
  /** `hostPath.path`. */
  readonly path: string;
  readonly pool: PoolRef;
}
