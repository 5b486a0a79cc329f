import type { ChecksumAlgorithm } from '../source/checksum.js';

/** What a hashing thread is started with. */
export interface HashThreadData {
  readonly memory: SharedArrayBuffer;
  readonly slotBytes: number;
  readonly algorithm: ChecksumAlgorithm;
}

/** Bytes of a slot to add, or the question for the digest. */
export type HashOrder = { readonly slot: number; readonly bytes: number } | { readonly digest: true };

/** A slot that is free again, or the answer. */
export type HashAnswer = { readonly slot: number } | { readonly digest: string };
