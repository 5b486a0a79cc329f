/** Scratch space: room for a second copy of an image that cannot be streamed, in a claim of dvflow's own while it is needed. */
import type { DataVolumeRef } from './data-volume.js';
import type { ImageFacts } from './image.js';
import type { ClaimRef, PoolRef, ReservedDirectory, TargetPlan } from './target.js';

/** Which of CDI's three rules chose the class, in their order (`cdi.md` §5). */
export type ScratchChoice = 'scratchSpaceStorageClass' | 'default StorageClass' | "target's StorageClass";

/** How scratch space will look; made before anything is allocated. */
export interface ScratchPlan {
  readonly storageClass: string;
  readonly provisioner: string;
  readonly chosenBy: ScratchChoice;
  readonly pool: PoolRef;
  /** The claim's storage request, in bytes: what CDI would ask for, and more where the image is known to need it. */
  readonly requestBytes: number;
  /** What its directory is promised, in bytes: the request, and what an image file of that size needs for its own tables. */
  readonly promisedBytes: number;
  /** Why the image needs it. */
  readonly reason: string;
}

/** Scratch space that is there, on the node of the transfer. */
export interface ScratchSpace {
  readonly directory: ReservedDirectory;
  /** The claim that stands for it in `dvflow-transfers`. */
  readonly claim: ClaimRef;
  /** The image may occupy so many bytes there. */
  readonly bytes: number;
}

/** The claim of scratch space as it was made. */
export interface ScratchClaim {
  readonly claim: ClaimRef;
  /** Bytes that volumes not made by dvflow occupy or promise in this pool on the target's node. */
  readonly foreignBytes: number;
}

/** What the lifecycles ask Kubernetes about scratch space; on the task queue `dvflow`. */
export interface ScratchActivities {
  /**
   * Chooses class and size from the configuration as it is now; nothing is allocated.
   * @throws {@link FailureType} `ScratchSpaceRequired` where no class can serve it, naming the class and the setting to change
   */
  planScratch(input: {
    dataVolume: DataVolumeRef;
    target: TargetPlan;
    image: ImageFacts;
    /** Why the image needs it. */
    reason: string;
  }): Promise<ScratchPlan>;
  /**
   * Creates the claim `prime-<uid>-scratch` in `dvflow-transfers`, or returns the one an earlier attempt made, and annotates the
   * user's claim `cdi.kubevirt.io/storage.import.requiresScratch`.
   * @throws {@link FailureType} `ScratchSpaceRequired` where the class does not allow this node, `ResourceExists`, `ExceededQuota`
   * (retried)
   */
  ensureScratchClaim(input: {
    dataVolume: DataVolumeRef;
    /** The user's claim. */
    claim: ClaimRef;
    plan: ScratchPlan;
    node: string;
    hostname: string;
  }): Promise<ScratchClaim>;
  /**
   * Creates the PersistentVolume of the directory and waits some seconds for the claim to be Bound to it; `unbound` says why it is
   * not (yet).
   */
  bindScratch(input: {
    dataVolume: DataVolumeRef;
    claim: ClaimRef;
    plan: ScratchPlan;
    directory: ReservedDirectory;
  }): Promise<{ readonly unbound?: string }>;
  /** Removes claim and PersistentVolume of this DataVolume's scratch space; absent is success. */
  deleteScratch(input: { dataVolume: DataVolumeRef }): Promise<void>;
}
