/** Blank disks: types only. */
import type { ClaimRef } from './target.js';
import type { TransferResult } from './transfer.js';
import type { FillTarget } from './local-volumes.js';

/** Input of `createBlankDisk`. */
export interface BlankDiskInput {
  readonly target: FillTarget;
  /** The claim, for messages. */
  readonly claim: ClaimRef;
  /** `disk.img` gets this size, in bytes; a block device keeps its own. */
  readonly usableBytes: number;
  /** Every block of the file is allocated; every byte of a device is zeroed. */
  readonly preallocation: boolean;
}

/** Result of `blankDataVolume`. */
export interface BlankResult {
  readonly claim: { readonly namespace: string; readonly name: string };
  /** Name of the PersistentVolume; absent for an adopted claim that is not bound yet. */
  readonly volume?: string;
  readonly node?: string;
  /** Size that the guest sees, in bytes. */
  readonly virtualSize?: number;
  /** The room was taken in advance. */
  readonly preallocated?: boolean;
}

/**
 * Blank disks. A sparse one is milliseconds of work, and is made on task queue `dvflow-node-<node>`; a preallocated one may keep the
 * node's disks busy, and takes one of the slots of `dvflow-transfer-<node>`.
 */
export interface BlankActivities {
  /**
   * Makes `disk.img`, sparse or with every block allocated by `fallocate`. A block device is left as it is, or zeroed from its start
   * to its end; that goes on where an earlier attempt was. Heartbeats {@link TransferProgress}.
   * @throws {@link FailureType} `IncompatiblePVC` where the file system cannot preallocate; `ResourceExists` where the target is not this
   * DataVolume's; retried: `NoSpace`, `NodeUnavailable`
   */
  createBlankDisk(input: BlankDiskInput): Promise<TransferResult>;
}
