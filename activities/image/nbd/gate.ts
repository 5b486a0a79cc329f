/** Lets work in as long as there is room for it. */
export interface Gate {
  /** Waits until `bytes` more fit, or nothing else is inside. */
  enter(bytes: number): Promise<void>;
  leave(bytes: number): void;
  /** Resolves when nothing is inside. */
  empty(): Promise<void>;
}

/** A gate for one that enters at a time: so many requests, and so many bytes, are inside at most. */
export function createGate(limit: { readonly requests: number; readonly bytes: number }): Gate {
  let requests = 0;
  let bytes = 0;
  let wake = (): void => undefined;

  async function until(fits: () => boolean): Promise<void> {
    while (!fits()) await new Promise<void>((resolve) => (wake = resolve));
  }
  return {
    async enter(more) {
      await until(() => requests === 0 || (requests < limit.requests && bytes + more <= limit.bytes));
      requests += 1;
      bytes += more;
    },
    leave(less) {
      requests -= 1;
      bytes -= less;
      wake();
    },
    empty: () => until(() => requests === 0),
  };
}
