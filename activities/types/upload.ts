/** Uploads: what the gateway, the workflow and the node that receives tell one another. */
import type { ContentType, DataVolumeEvent, DataVolumeFacts } from './data-volume.js';
import type { FillTarget, ReservedVolume } from './local-volumes.js';
import type { ClaimRef, TargetPlan } from './target.js';
import type { TransferResult } from './transfer.js';
import type { ScratchSpace } from './scratch.js';

/** Argument of the Update `openUpload`: somebody has begun to send. */
export interface UploadRequest {
  /**
   * Name of one attempt to send one file, chosen by the gateway: 1 to 128 letters, digits, `-` and `_`. The same one again goes on
   * where the last request ended; another one starts over.
   */
  readonly session: string;
  readonly contentType: ContentType;
  /** Bytes of the whole file, where the client says so. Without it the end of the first request's body is the end of the file. */
  readonly length?: number;
  /** The client can send the rest of a file in a later request (tus); a body that breaks off is waited for. @default false */
  readonly resumable?: boolean;
  /** Offset at which the client wants to go on, for information. */
  readonly offset?: number;
  /** `algorithm:hex` of the whole file, verified at its end. */
  readonly checksum?: string;
}

/** Answer of the Update: where to send the body, and from where on. */
export interface OpenedUpload {
  /** `https://host:port/upload/<uid>`: `PUT <url>?session=<session>`, header `Upload-Offset`. */
  readonly url: string;
  readonly session: string;
  /** Offset of the next byte that is wanted. */
  readonly offset: number;
  /** Every byte has been received and verified; there is nothing to send any more. @default false */
  readonly complete?: boolean;
}

/** Answer of the Update `locateUpload`: how far a session is. Nothing is opened, replaced or forgotten by it. */
export interface LocatedUpload {
  readonly session: string;
  /** Where its body is to be sent once the upload is opened; absent where there is nothing to send any more. */
  readonly url?: string;
  /**
   * Offset of the next byte that is wanted: 0 for a session that nothing is known of. Where it is the file's length, every byte has
   * come but nothing is said of the disk until `complete`: open the upload and send an empty body to be told.
   */
  readonly offset: number;
  /** This session's body is being received now, or waits for its answer. @default false */
  readonly receiving?: boolean;
  /** The disk is this session's file, complete and verified. @default false */
  readonly complete?: boolean;
}

/** Input of `receiveUpload`. */
export interface ReceiveInput {
  readonly target: FillTarget;
  readonly request: UploadRequest;
  /** `disk.img` gets this size, in bytes; what is unpacked of an archive fits into it. */
  readonly usableBytes: number;
  /** The claim, for messages. */
  readonly claim: ClaimRef;
  readonly preallocation: boolean;
  /** Room on this node for a second copy; absent: a file that needs some is said to. */
  readonly scratch?: ScratchSpace;
  /** Keep the file as it comes in scratch space, and read it from there when it is whole. @default false */
  readonly spool?: boolean;
}

/**
 * How one reception ended. What is wrong with the file or the client is no failure of the activity: the next try may be another
 * file.
 */
export type Reception =
  /**
   * The disk is complete, verified and synced, and the client has been told. It is the file of `session`: of an earlier one where
   * that had been completed before its worker died, since its client may know.
   */
  | { readonly outcome: 'complete'; readonly result: TransferResult; readonly session: string }
  /** The client went away, or was silent for too long; what is durable is kept for the same session. */
  | {
      readonly outcome: 'interrupted';
      readonly offset: number;
      readonly type: string;
      readonly message: string;
    }
  /** This file cannot become the disk; the client has been told, and nothing of it is kept. */
  | { readonly outcome: 'refused'; readonly type: string; readonly message: string }
  /** The file needs scratch space; its client waits, unread, until the next reception comes with some. */
  | { readonly outcome: 'scratch'; readonly reason: string };

/** What a node says about an upload into one of its volumes. */
export interface UploadPlace {
  /** Address on the node's data port. */
  readonly url: string;
  /** Offset from which this session can go on. */
  readonly offset: number;
  /** Session whose body is being received now, or waits for a slot, if any. */
  readonly receiving?: string;
  /** Session that the data port is open for now, if any: nothing has to be opened for its next request. */
  readonly open?: string;
  /** Session whose file is complete on the disk, if any. */
  readonly finished?: string;
}

/** What a run that continues as new hands on of its upload. */
export interface CarriedUpload {
  /** A client has come: time counts. */
  readonly begun: boolean;
  /** Why the last client did not succeed. */
  readonly trouble?: { readonly type: string; readonly message: string };
  /** Scratch space that has been made. */
  readonly scratch?: ScratchSpace;
  /** A client that has been let in and is still to be served. */
  readonly request?: UploadRequest;
}

/** The one argument of `uploadClaim`: a claim with `cdi.kubevirt.io/storage.upload.target` and without a DataVolume. */
export interface UploadClaimInput extends ClaimRef {
  /** Time of the last progress (ms since the epoch) that a run which continued as new hands on. */
  readonly progressAt?: number;
  /** Value of `dvflow.io/retry` that this run answers; absent on a first run. */
  readonly retry?: string;
  /** Of a run that continues another one. */
  readonly upload?: CarriedUpload;
}

/** A claim that waits for an upload, as it is now; without `target` nothing can be received yet, or any more. */
export interface UploadClaim {
  /** What a lifecycle decides by, read off the claim instead of a DataVolume. */
  readonly facts: DataVolumeFacts;
  /** Nothing is to be done: the claim is gone, is no target, or has its disk. */
  readonly done?: string;
  /** What has to happen first, and whether time counts meanwhile. */
  readonly waiting?: { readonly reason: string; readonly message: string; readonly counts: boolean };
  readonly target?: TargetPlan;
  /** The claim is Bound: its volume is filled in place. */
  readonly bound?: ReservedVolume;
}

/** What the lifecycle of such a claim asks Kubernetes; task queue `dvflow`. */
export interface UploadControlActivities {
  /**
   * Reads the claim and decides how it is filled: a new volume while it is Pending, its own one in place when it is Bound. A claim
   * that a pod uses waits, by name of the pod. `retry`: notes first that this value is answered.
   * @throws {@link FailureType} `IncompatiblePVC`, `ContentTypeNotSupported`, `InvalidDataVolume`; `ResourceExists` for a workflow of
   * another id than the claim's
   */
  openUploadClaim(input: { claim: ClaimRef; retry?: string }): Promise<UploadClaim>;
  /**
   * Looks whether the claim can still get this volume, and whether it still asks for an upload.
   * @throws {@link FailureType} `ClaimLost` where it is gone, names another volume or was Bound before its disk was complete, and where
   * a volume that is filled for it was deleted, made anew under its name, or given to somebody else
   */
  confirmUploadTarget(input: { claim: ClaimRef; directory: FillTarget }): Promise<{ asks: boolean }>;
  /**
   * Writes CDI's annotations and an event on the claim; one that is gone is success. Nothing is said on a claim that does not ask for
   * an upload any more, or has ceased to at some time (`withdrawn`): what was said before is taken back. Nor is anything said by a
   * workflow of another id than the claim's.
   * A claim that has its disk stays so, whatever a run says that was reset after it had completed.
   * @throws {@link FailureType} `ResourceExists` for such a run where it would wait for an upload
   */
  recordUploadClaim(input: {
    claim: ClaimRef;
    podPhase?: 'Pending' | 'Running' | 'Succeeded' | 'Failed';
    podReady?: boolean;
    event?: DataVolumeEvent;
    /** What the run was for is not asked for any more, whatever the claim asks for by now. @default false */
    withdrawn?: boolean;
  }): Promise<void>;
}

/** What a lifecycle asks the transfer queue of a node about uploads. */
export interface UploadTransferActivities {
  /**
   * Opens the data port for one session and receives its file into the target: through the streaming engine as it arrives, in an
   * unprivileged child process. Heartbeats {@link TransferProgress}.
   * @throws {@link FailureType} retried: `NodeUnavailable`, `NoSpace`, `ScratchUnavailable`
   */
  receiveUpload(input: ReceiveInput): Promise<Reception>;
}

/** What a lifecycle asks the short queue of a node about uploads. */
export interface UploadNodeActivities {
  /** Where this session's body is to be sent, and from which offset on. */
  locateUpload(input: { target: FillTarget; request: UploadRequest }): Promise<UploadPlace>;
  /**
   * Tells a client why it is not received: one that waits for scratch space, one whose request waits on the data port, and one of
   * `session` that comes within seconds. Nobody waiting is success.
   */
  dismissUpload(input: {
    target: FillTarget;
    type: string;
    message: string;
    /** The same request may succeed later. @default false */
    retryable?: boolean;
    session?: string;
  }): Promise<void>;
}
