/** Where a disk goes: claims, volumes, pools, nodes. */
import type { DataVolumeRef } from './data-volume.js';

/** A user's claim, by identity. */
export interface ClaimRef {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** How the target of a DataVolume will look; made before anything is allocated. */
export interface TargetPlan {
  /** `create`: dvflow makes the claim; `adopt`: an existing claim already holds the data (`cdi.md` §6.4); `wait`: for what `waiting` says, else, prePopulated, for its claim. */
  readonly claim: 'create' | 'adopt' | 'wait';
  /** uid of the claim to adopt. */
  readonly adoptUid?: string;
  /** The claim that has the name is being removed, is filled for another DataVolume, or waits for the volume that is kept for it. */
  readonly waiting?: {
    readonly reason: 'ErrResourceMarkedForDeletion' | 'ErrResourceExists' | 'ErrExceededQuota' | 'Pending';
    readonly message: string;
  };
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
  /** Nobody chooses, and no consumer is to be waited for any more: a user has said so meanwhile. */
  readonly immediate?: true;
  /** Why there is no candidate, where there is none. */
  readonly reason?: string;
}

/** What a live node worker says about its pool. */
export interface PoolFacts {
  readonly node: string;
  /** Bytes that can still be promised; see `activities/node/pool.ts`. */
  readonly roomBytes: number;
  /** Who asked has its directory here already; what is promised to it counts as room. */
  readonly held?: boolean;
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

/** What `publishVolume` made. */
export interface PublishedVolume {
  /** Name of the PersistentVolume. */
  readonly volume: string;
}

/** Answer of an undo that found its object in use: it is a user's, and stays. */
export interface KeptVolume {
  readonly kept: true;
}

/** Something unpublished that the sweeper found; see `design.md` §6. */
export interface UnpublishedItem {
  readonly kind:
    'PersistentVolumeClaim' | 'PersistentVolume' | 'Secret' | 'Directory' | 'BlockVolume' | 'TransferState';
  /** Namespace of a claim or Secret; node of everything else but a volume. */
  readonly where: string;
  /** Object name; for a directory its name under the pool. */
  readonly name: string;
  /** uid of the object, so that a namesake made later is never removed; of a block volume the run that made it, of a transfer's state its PersistentVolume. */
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

/** Which of the unpublished items are asked for; without members all. */
export interface ItemPage {
  /** The last one of the page before; it may be gone by now. */
  readonly after?: UnpublishedItem;
  readonly limit?: number;
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
