import type { ContentType, FailureType, TransferProgress, TransferResult } from '../types.js';
import type { VolumeRequest } from './clone/volume-request.js';
import type { ScratchRoom } from './scratch.js';
import type { AddressPolicy, SourceRequest } from './source/types.js';
import type { BodyEnd, UploadBody } from './upload/upload-source.js';

/** First line on the child's standard input. It holds credentials: it is never an argument, a file or a log line. */
export interface ChildJob {
  /** What is fetched; absent where an {@link ChildJob.upload} comes. */
  readonly request?: SourceRequest | VolumeRequest;
  /** What is received: the bytes come by a descriptor, and how they ended by an order. */
  readonly upload?: UploadBody;
  readonly policy: AddressPolicy;
  readonly contentType: ContentType;
  readonly claimName: string;
  readonly usableBytes: number;
  readonly preallocation: boolean;
  readonly fence: number;
  readonly attempt: number;
  /** Numbers of the descriptors it inherits. */
  readonly fds: {
    /** `disk.img`, or a block device; absent for an archive, which goes into the directory. */
    readonly file?: number;
    readonly directory: number;
    readonly record: number;
    readonly direct?: number;
    /** Directory of scratch space. */
    readonly scratch?: number;
    /** Disk of the volume that is cloned, on this node. */
    readonly volume?: number;
    /** The body of an upload. */
    readonly body?: number;
  };
  /** What of the scratch space may be used, where there is some. */
  readonly scratchRoom?: ScratchRoom;
}

/** Any later line: stop, and write nothing more; or how the body of an upload has ended. */
export type ChildOrder = { readonly abort: true } | { readonly body: BodyEnd };

/** One line on the child's standard output; a result or a failure is the last. */
export type ChildMessage =
  | { readonly progress: TransferProgress }
  | { readonly result: TransferResult }
  | { readonly failure: ChildFailure };

/** A failure, across the process boundary. */
export interface ChildFailure {
  /** Absent for an error that dvflow did not foresee; the message then names its class and code only. */
  readonly type?: FailureType;
  readonly message: string;
  readonly permanent: boolean;
  /** What the source asked for, by `Retry-After`. */
  readonly nextRetryDelayMs?: number;
  /** Another node does not answer. */
  readonly away?: true;
}
