/** A page-aligned piece of the pool; hand it back with `release`, once. */
export interface Segment {
  readonly memory: Buffer;
  release(): void;
}

/** Fixed memory: when every segment is taken, `acquire` waits, reading stops and TCP pushes back. */
export interface SegmentPool {
  readonly segmentBytes: number;
  acquire(): Promise<Segment>;
}

const WASM_PAGE = 65_536;

/** The one part of WebAssembly that is used; TypeScript knows it only as part of a browser. */
declare const WebAssembly: {
  Memory: new (limits: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer };
};

/**
 * A pool of `count` segments in one WebAssembly memory: the only page-aligned memory that Node offers without a native module,
 * which O_DIRECT needs. It does not grow (that would detach its buffer), and pages never touched cost nothing.
 */
export function createSegmentPool({
  segmentBytes,
  count,
}: {
  segmentBytes: number;
  count: number;
}): SegmentPool {
  const pages = (segmentBytes * count) / WASM_PAGE;
  const { buffer } = new WebAssembly.Memory({ initial: pages, maximum: pages });
  const free: Buffer[] = Array.from({ length: count }, (_, index) =>
    Buffer.from(buffer, index * segmentBytes, segmentBytes),
  );
  const waiting: ((memory: Buffer) => void)[] = [];

  function release(memory: Buffer): void {
    const next = waiting.shift();
    if (next) next(memory);
    else free.push(memory);
  }

  async function acquire(): Promise<Segment> {
    const memory = free.pop() ?? (await new Promise<Buffer>((resolve) => waiting.push(resolve)));
    return { memory, release: () => release(memory) };
  }
  return { segmentBytes, acquire };
}

/** Runs tasks, at most so many at once, in the order they were handed in. */
export interface Slots {
  run<T>(task: () => Promise<T>): Promise<T>;
}

/** `count` slots. */
export function createSlots(count: number): Slots {
  const waiting: (() => void)[] = [];
  let free = count;

  async function run<T>(task: () => Promise<T>): Promise<T> {
    if (free > 0) free -= 1;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await task();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else free += 1;
    }
  }
  return { run };
}
