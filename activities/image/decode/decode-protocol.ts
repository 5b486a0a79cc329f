import type { ClusterCompression, DecodeOutcome } from './cluster-decoder.js';

/** Numbers of one cluster in {@link DecodeOrder.entries}: offset and length of input and output in the shared memory. */
export const ENTRY_NUMBERS = 4;

/** What a decoding thread is started with. */
export interface DecodeThreadData {
  readonly compression: ClusterCompression;
  readonly memory: SharedArrayBuffer;
  /** False in tests: see `createClusterDecoder`. */
  readonly native?: boolean;
}

/** A message to a decoding thread: an order, or `null`, which ends it. */
export type DecodeMessage = DecodeOrder | null;

/** Clusters to decode in place; all numbers are offsets in the shared memory. */
export interface DecodeOrder {
  readonly id: number;
  readonly entries: Float64Array;
}

/** What became of an order: all well, or the first cluster (its index in the order) that was not. */
export interface DecodeReport {
  readonly id: number;
  readonly failed?: { readonly index: number; readonly outcome: Exclude<DecodeOutcome, 'ok'> };
}
