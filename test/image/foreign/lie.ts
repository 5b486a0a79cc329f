import type { FailureType } from '../../../activities/types.js';

/** A lie by the name of the trick: how an honest image is made to tell it, and how it is refused. */
export interface Lie {
  readonly name: string;
  /** Changes the image, or answers another one. */
  readonly tell: (image: Buffer) => Buffer | void;
  readonly type: FailureType;
  readonly message: RegExp;
}

/** Writes a 64-bit field. */
export const field =
  (at: number, value: bigint) =>
  (image: Buffer): void =>
    void image.writeBigUInt64LE(value, at);
