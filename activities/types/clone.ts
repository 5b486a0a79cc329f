/** What is cloned and how: the vocabulary of `cloneDataVolume`; types only. */
import type { FillTarget } from './local-volumes.js';
import type { ContentType, DataVolumeEvent, DataVolumeRef } from './data-volume.js';
import type { ClaimRef, TargetPlan } from './target.js';

/** A PersistentVolume that is read, and never written. */
export interface SourceVolume {
  readonly node: string;
  /** The PersistentVolume. */
  readonly volume: string;
  readonly volumeUid: string;
  readonly volumeMode: 'Filesystem' | 'Block';
  /** Its `hostPath.path` or `local.path`. */
  readonly path: string;
}

/** A claim that can be cloned now: Bound, complete, and nobody writes to it. */
export interface CloneOrigin {
  readonly claim: ClaimRef;
  readonly volume: SourceVolume;
  readonly contentType: ContentType;
  /** Its storage request, in bytes. */
  readonly requestBytes: number;
  /** What it got, in bytes. */
  readonly capacityBytes: number;
  /** DataSources that led to it, as `namespace/name`. */
  readonly through?: readonly string[];
  /** Its labels that say what a machine of its disk is like. */
  readonly labels?: Readonly<Record<string, string>>;
  readonly waiting?: never;
}

/** How far a clone is that continues as new: by now a DataSource may name another claim, and a size that is left out may be another one. */
export interface CloneStarted {
  /** What is cloned, whatever is named meanwhile. */
  readonly origin: CloneOrigin;
  /** What it holds, once that is known: the claim has its size. */
  readonly content?: SourceContent;
  /** See {@link CloneInput}. */
  readonly generation: number;
}

/** Why a claim cannot be cloned yet. */
export interface OriginAwaited {
  readonly waiting: {
    /** CDI's reason: `CloneWithoutSource`, `ImportPVCNotReady`, `CloneSourceInUse`; or that of a DataSource. */
    readonly reason: string;
    /** In words, with every name. */
    readonly message: string;
    /** Time counts towards the deadline. */
    readonly counts: boolean;
  };
  /** A volume that is kept for the clone's own claim has come meanwhile, and the DataVolume asks for it as it is. */
  readonly kept?: true;
}

/** What a volume holds. */
export interface SourceContent {
  /** Size of the disk, in bytes; of an archive's volume the bytes of its files. */
  readonly bytes: number;
  /** Bytes that occupy storage. */
  readonly allocatedBytes: number;
  /** FIFOs, sockets, devices and mounts in an archive's volume: they are not cloned. */
  readonly leftOut?: number;
}

/**
 * How the bytes get from one volume to the other. `reflink`: the file system shares the blocks; `copy`: the extents that hold data
 * are copied on their node; `network`: they are read from the data port of the source's node.
 */
export type CloneMethod = 'reflink' | 'copy' | 'network';

/** A method, and why. */
export interface CloneStrategy {
  readonly method: CloneMethod;
  /** One sentence. */
  readonly reason: string;
  /** Why blocks are not shared: CDI's `cloneFallbackReason`; absent for a reflink. */
  readonly fallback?: string;
}

/** What `transferImage` reads in place of an image. */
export interface CloneInput {
  readonly volume: SourceVolume;
  readonly method: CloneMethod;
  /** Counts the times that the source was found in use after it had been read: what was read before does not count. */
  readonly generation: number;
  /** Address on the data port of the source's node; of method `network`. */
  readonly url?: string;
}

/** Input of `serveVolume`. */
export interface ServeInput {
  readonly uid: string;
  readonly volume: SourceVolume;
  readonly contentType: ContentType;
  readonly generation: number;
  /** Where those who read it look for it. */
  readonly url: string;
}

/** Result of `cloneDataVolume`. */
export interface CloneResult {
  readonly claim: { readonly namespace: string; readonly name: string };
  /** Name of the PersistentVolume; absent for an adopted claim that is not bound yet. */
  readonly volume?: string;
  readonly node?: string;
  /** The claim that was cloned. */
  readonly source?: { readonly namespace: string; readonly name: string };
  readonly method?: CloneMethod;
  readonly virtualSize?: number;
  readonly bytesTransferred?: number;
  readonly bytesWritten?: number;
}

/** Clones, task queue `dvflow`. */
export interface CloneControlActivities {
  /**
   * What is to be done about a claim that has the DataVolume's name already (`cdi.md` §6.4), or for which a volume is kept with its
   * data: as `planTarget` does.
   * @throws {@link FailureType} `ResourceExists`; `IncompatiblePVC`, `ClaimLost` where a volume is kept for the claim
   */
  judgeTarget(input: {
    dataVolume: DataVolumeRef;
  }): Promise<Pick<TargetPlan, 'claim' | 'adoptUid' | 'waiting'>>;
  /**
   * The claim that a DataVolume is cloned from, as it is now; `waiting`: why it cannot be cloned yet. With `found` it is the claim
   * of that name, to which the reference led when the clone began: by now a DataSource may name another one.
   * @throws {@link FailureType} `UnsupportedSource` for a snapshot, and for a volume that is on no node
   */
  findCloneOrigin(input: {
    dataVolume: DataVolumeRef;
    found?: { readonly namespace: string; readonly name: string };
  }): Promise<CloneOrigin | OriginAwaited>;
  /**
   * Decides, without allocating anything, what the claim of a clone will be; what it leaves out is the source's.
   * @throws {@link FailureType} those of `planTarget`; `LargerPVCRequired`, `IncompatibleVolumeModes`, `ContentTypeNotSupported`
   */
  planClone(input: {
    dataVolume: DataVolumeRef;
    origin: CloneOrigin;
    content: SourceContent;
  }): Promise<TargetPlan>;
  /**
   * Says on claim and DataVolume how the clone is made (`cdi.kubevirt.io/cloneType`) and of what, or that it is complete, with an
   * event. The DataVolume gets the labels of the source that it has not.
   */
  annotateClone(input: {
    dataVolume: DataVolumeRef;
    claim: ClaimRef;
    strategy?: CloneStrategy;
    origin?: CloneOrigin;
    complete?: boolean;
    event?: DataVolumeEvent;
  }): Promise<void>;
}

/** Clones, task queue `dvflow-node-<node>`. */
export interface CloneNodeActivities {
  /**
   * Looks at what a volume holds; nothing in it changes.
   * @throws {@link FailureType} `SourceNotFound` where it holds no disk, `ImageHostile` where something else bears its name;
   * retried: `NodeUnavailable` while its path does not exist
   */
  measureOrigin(input: { volume: SourceVolume; contentType: ContentType }): Promise<SourceContent>;
  /** Address on the data port of this node that the volume has, or will have. @throws {@link FailureType} retried: `NodeUnavailable` */
  locateVolume(input: { uid: string }): Promise<{ readonly url: string }>;
  /**
   * Serves a volume for one clone, whose DataVolume has this uid, until it is cancelled; read only, to other nodes of dvflow. Heartbeats.
   * Task queue `dvflow-serve-<node>`.
   * @throws {@link FailureType} `NodeUnavailable` where the port has another address by now; those of `measureOrigin`
   */
  serveVolume(input: ServeInput): Promise<void>;
  /** On the node of source and target: whether their file system can share blocks. Tried on a file without a name, which is gone then. */
  chooseCloneMethod(input: {
    volume: SourceVolume;
    target: FillTarget;
    contentType: ContentType;
    preallocation: boolean;
  }): Promise<CloneStrategy>;
}
