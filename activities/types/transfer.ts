/** The one long activity. */
import type { CloneInput } from './clone.js';
import type { ContentType } from './data-volume.js';
import type { ImageFacts, ImageFormat } from './image.js';
import type { FillTarget } from './local-volumes.js';
import type { ScratchSpace } from './scratch.js';
import type { ClaimRef } from './target.js';

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
  /** Bytes of a device that this attempt has made zero; absent where there are none. */
  readonly bytesZeroed?: number;
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
