/** Memory that is used again: a buffer for each request makes the garbage collector work more than the request does. */
export interface BufferPool {
  /** At least `length` bytes, with whatever was in them; hand it back with `give`, once. */
  take(length: number): Buffer;
  give(memory: Buffer): void;
}

/** Smaller ones come from Node's own pool. */
const SMALLEST = 16 * 1024;

/** A pool that keeps at most `keepBytes` for later use, in sizes that are powers of two. */
export function createBufferPool(keepBytes: number): BufferPool {
  const free = new Map<number, Buffer[]>();
  let kept = 0;
  return {
    take(length) {
      if (length < SMALLEST) return Buffer.allocUnsafe(length);
      const size = 2 ** Math.ceil(Math.log2(length));
      const memory = free.get(size)?.pop();
      if (!memory) return Buffer.allocUnsafeSlow(size);
      kept -= size;
      return memory;
    },
    give(memory) {
      const size = memory.length;
      if (size < SMALLEST || kept + size > keepBytes) return;
      const list = free.get(size);
      if (list) list.push(memory);
      else free.set(size, [memory]);
      kept += size;
    },
  };
}
