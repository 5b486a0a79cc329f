/** File system overhead: what a volume's own file system needs of it (`cdi.md` §2.10, §8). */
import type { CdiConfig } from './objects.js';

/** Sizes of disks are multiples of this, in bytes; CDI's alignment. */
const ALIGNMENT = 1024n ** 2n;
/** CDI's `Percent`: zero to one with at most three decimals. */
const PERCENT = /^(?:0(?:\.\d{1,3})?|1)$/;
/** An overhead in thousandths is a whole number, so that sizes are exact. */
const THOUSAND = 1000n;

/** Overhead where CDIConfig says nothing. */
export const DEFAULT_OVERHEAD = '0.06';

/**
 * Overhead of a storage class, 0 to 1: what the specification says, per class, then global; else the status, which follows the
 * specification a moment later; else 0.06. Malformed values are passed over as CDI does.
 */
export function filesystemOverhead(config: CdiConfig | undefined, storageClass: string): number {
  const spec = config?.spec?.filesystemOverhead;
  const status = config?.status?.filesystemOverhead;
  const told = [
    spec?.storageClass?.[storageClass],
    spec?.global,
    status?.storageClass?.[storageClass],
    status?.global,
  ];
  return Number(told.find(isOverhead) ?? DEFAULT_OVERHEAD);
}

/** Whether it is CDI's `Percent`. */
export function isOverhead(value: string | undefined): value is string {
  return value !== undefined && PERCENT.test(value);
}

/** Bytes that a disk may have on a volume of so many bytes: CDI's `GetUsableSpace`. */
export function usableSpace(overhead: number, availableBytes: number): number {
  const usable = divideUp(BigInt(availableBytes) * THOUSAND, THOUSAND + thousandths(overhead));
  return Number((usable / ALIGNMENT) * ALIGNMENT);
}

/** Bytes that a volume needs for a disk of so many bytes: CDI's `GetRequiredSpace`. */
export function requiredSpace(overhead: number, diskBytes: number): number {
  const aligned = BigInt(alignedUp(diskBytes));
  return Number(divideUp(aligned * (THOUSAND + thousandths(overhead)), THOUSAND));
}

/** So many bytes, rounded up to whole MiB. */
export function alignedUp(bytes: number): number {
  return Number(divideUp(BigInt(Math.ceil(bytes)), ALIGNMENT) * ALIGNMENT);
}

function thousandths(overhead: number): bigint {
  return BigInt(Math.round(overhead * 1000));
}

function divideUp(dividend: bigint, divisor: bigint): bigint {
  return (dividend + divisor - 1n) / divisor;
}
