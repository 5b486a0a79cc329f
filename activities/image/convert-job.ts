import type { ContentType, ImageFormat, TransferProgress } from '../types.js';
import type { RecordStore } from './resume-record.js';
import type { ScratchRoom } from './scratch.js';
import type { TargetSize } from './size.js';
import type { ImageSource } from './source/types.js';
import type { TargetFile } from './writer.js';

/** One attempt to fill a target from a source. */
export interface ConvertJob {
  readonly source: ImageSource;
  readonly target: TargetFile;
  /** `usableBytes` is the size that the disk gets. */
  readonly size: TargetSize;
  readonly preallocation: boolean;
  /** `algorithm:hex` of the source as served. */
  readonly checksum?: string;
  /** @default 'kubevirt' */
  readonly contentType?: ContentType;
  /** Refuse an image of another format; `raw` takes what is inside all containers as it is. */
  readonly format?: ImageFormat;
  /** The source is the disk of a volume, byte for byte: what it looks like does not matter. @default false */
  readonly verbatim?: boolean;
  /** Of such a source: share the blocks, where source and target allow it. @default false */
  readonly reflink?: boolean;
  /** Directory for a second copy of the image, where the plan needs one; absent: such a plan is refused. */
  readonly scratch?: string;
  /** What of that directory may be used. @default all that its file system has */
  readonly scratchRoom?: ScratchRoom;
  readonly records: RecordStore;
  /** This attempt's fencing number; greater than that of any earlier one. */
  readonly fence: number;
  /** Temporal attempt, for progress. */
  readonly attempt: number;
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: TransferProgress) => void;
  /** Set by tests: how often a record is written. */
  readonly checkpointEvery?: { readonly everyBytes?: number; readonly everyMs?: number };
}
