import { adviseHugePages } from './huge-pages.js';

/** A page-aligned piece of the pool; hand it back with `release`, once. */
export interface Segment {
  readonly memory: Buffer;
  /** Room beside it, where the pool was made with some: for what is decoded into `memory`. */
  readonly beside: Buffer;
  release(): void;
}

/** Fixed memory: when every segment is taken, `acquire` waits, reading stops and TCP pushes back. */
export interface SegmentPool {
  readonly segmentBytes: number;
  acquire(): Promise<Segment>;
}

/** A pool whose memory threads may share. */
export interface SharedSegmentPool extends SegmentPool {
  /** All of it; `byteOffset` of a segment's buffers are offsets in it. */
  readonly shared: SharedArrayBuffer;
}

/** Sizes of a pool, in bytes; multiples of a page. */
export interface PoolShape {
  readonly segmentBytes: number;
  readonly count: number;
  /** @default 0 */
  readonly besideBytes?: number;
}

const WASM_PAGE = 65_536;

/** The one part of WebAssembly that is used; TypeScript knows it only as part of a browser. */
declare const WebAssembly: {
  Memory: new (limits: { initial: number; maximum: number; shared: boolean }) => {
    readonly buffer: ArrayBuffer | SharedArrayBuffer;
  };
};

/**
 * A pool of `count` segments in one WebAssembly memory: the only page-aligned memory that Node offers without a native module,
 * which O_DIRECT needs. It does not grow (that would detach its buffer), and pages never touched cost nothing. From the second
 * segment on, the kernel is asked for huge pages: to touch 64 MiB first by small ones takes 30 to 80 ms.
 */
export function createSegmentPool(shape: PoolShape): SegmentPool {
  return poolOver(memoryFor(shape, false), shape);
}

/** {@link createSegmentPool} in shared memory, which this thread fills and copies several times more slowly. */
export function createSharedPool(shape: PoolShape): SharedSegmentPool {
  const shared = memoryFor(shape, true) as SharedArrayBuffer;
  return { ...poolOver(shared, shape), shared };
}

function memoryFor({ segmentBytes, count, besideBytes = 0 }: PoolShape, shared: boolean) {
  const pages = Math.ceil(((segmentBytes + besideBytes) * count) / WASM_PAGE);
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared }).buffer;
}

function poolOver(
  memory: ArrayBuffer | SharedArrayBuffer,
  { segmentBytes, count, besideBytes = 0 }: PoolShape,
): SegmentPool {
  const stride = segmentBytes + besideBytes;
  const free: number[] = Array.from({ length: count }, (_, index) => count - 1 - index);
  const waiting: ((index: number) => void)[] = [];
  let advised = 1;

  function release(index: number): void {
    const next = waiting.shift();
    if (next) next(index);
    else free.push(index);
  }

  async function acquire(): Promise<Segment> {
    const index = free.pop() ?? (await new Promise<number>((resolve) => waiting.push(resolve)));
    // a small image has the first only, and ends before the library is loaded; what is beside is seldom filled
    if (index >= advised) {
      advised = index + 1;
      adviseHugePages(Buffer.from(memory, index * stride, segmentBytes));
    }
    return {
      memory: Buffer.from(memory, index * stride, segmentBytes),
      beside: Buffer.from(memory, index * stride + segmentBytes, besideBytes),
      release: () => release(index),
    };
  }
  return { segmentBytes, acquire };
}
