import type { ImageFormat } from '../types.js';
import type { SparseWriter } from './writer.js';

/** What a reader of any plan works with. */
export interface Sink {
  readonly writer: SparseWriter;
  readonly diskBytes: number;
  /** Size of the target if it is a block device: all of it is covered. */
  readonly deviceBytes?: number;
  /** The target may hold data of an earlier attempt. */
  readonly existing: boolean;
  /** Where the durable part ends, in the plan's own offsets; 0 to begin. */
  readonly completed: number;
  /** Call with the offset below which everything is written; makes it durable when a record is due, or as the `last` of an attempt. */
  checkpoint(completed: number, flush?: () => Promise<void>, last?: boolean): Promise<void>;
  /** Call with how much is written in all, in whatever order: for progress only. */
  at(done: number): void;
  readonly signal: AbortSignal;
}

/** What a reader learnt by the end. */
export interface ReadOutcome {
  readonly virtualSize: number;
  /** Where the end of the bytes has told another format than their beginning. */
  readonly format?: ImageFormat;
}
