import { systemCall } from './decode/native.js';

/** `madvise(2)`, <asm-generic/mman-common.h>. */
const MADV_HUGEPAGE = 14;

type Madvise = (address: Buffer, length: number, advice: number) => number;

/**
 * Asks the kernel to give `memory`, where it is not touched yet, in pages of 2 MiB instead of 4 KiB. Only an advice: nothing changes
 * where the library cannot be called, the kernel has no huge pages, or they are switched off.
 */
export function adviseHugePages(memory: Buffer): void {
  const madvise = systemCall<Madvise>('int madvise(void *, size_t, int)');
  madvise?.(memory, memory.byteLength, MADV_HUGEPAGE);
}
