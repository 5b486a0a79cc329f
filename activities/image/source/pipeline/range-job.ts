/** One range on its way into memory. */
export interface RangeJob {
  readonly start: number;
  readonly target: Uint8Array;
  /** Bytes of `target` that are there. */
  filled: number;
  /** Connections that broke under it. */
  broken: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** The range that is still to come; `end` is exclusive. */
export function missingOf({ start, target, filled }: RangeJob): { start: number; end: number } {
  return { start: start + filled, end: start + target.length };
}
