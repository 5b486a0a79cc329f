import type { ContentType, ImageFormat } from '../../activities/types.js';

/** One way to read an image and to write its disk. */
export interface FuzzJob {
  readonly image: string;
  /** The file of the disk, or the directory that an archive is unpacked into. */
  readonly target: string;
  /** Directory of the resume record. */
  readonly state: string;
  readonly contentType: ContentType;
  /** Directory for a second copy of the image; absent: there is none. */
  readonly scratch?: string;
  readonly checksum?: string;
  /** Size of the disk in bytes; absent: as large as the image's, which is bounded by 2^50. */
  readonly usableBytes?: number;
  readonly direct: boolean;
  readonly source: {
    readonly ranges: boolean;
    readonly length: boolean;
    /** Bytes a piece of the stream holds. */
    readonly chunk: number;
    /** The first attempt fails after so many bytes, and a second one goes on from its record. */
    readonly failAfter?: number;
    readonly loseRangesAfter?: number;
  };
}

/** How a conversion ended. */
export type FuzzEnd =
  | {
      readonly kind: 'done';
      readonly format: ImageFormat;
      readonly virtualSize: number;
      readonly diskBytes: number;
    }
  | { readonly kind: 'refused'; readonly type: string; readonly message: string }
  /** A failure that has no type: a bug. */
  | { readonly kind: 'untyped'; readonly message: string };

/** What the worker answers to a job. */
export interface FuzzAnswer {
  readonly end: FuzzEnd;
  /** Reads that were asked of the source beyond its end. */
  readonly outside: readonly string[];
}

/** What converts: the engine, or in the fuzzer's own tests something that is wrong. */
export type Convert = (job: FuzzJob) => Promise<FuzzAnswer>;
