import type { ApplicationFailure } from '@temporalio/common';
import { permanentFailure } from '../failures.js';
import { requiredSpace } from '../kubernetes/overhead.js';

/** What a target offers, and how its size came about: enough to say what to ask for instead. */
export interface TargetSize {
  /** `namespace/name` of the claim. */
  readonly claimName: string;
  /** Bytes that a disk may occupy in it. */
  readonly usableBytes: number;
  /** File system overhead: `0.06`. Absent where only the usable size is known. */
  readonly overhead?: number;
  /** The target becomes as large as the disk; `usableBytes` is only a bound. */
  readonly fit?: boolean;
  /** `pvc` requests include the overhead, `storage` requests are inflated by it. */
  readonly api?: 'pvc' | 'storage';
}

/** The request, in bytes, that a DataVolume must make for a disk of `virtualSize`. */
export function requestFor(virtualSize: number, target: Pick<TargetSize, 'overhead' | 'api'>): number {
  return requiredSpace(target.api === 'storage' ? 0 : (target.overhead ?? 0), virtualSize);
}

/** Refuses a disk that is larger than its target. @throws {@link FailureType} `LargerPVCRequired` */
export function assertFits(virtualSize: number, target: TargetSize): void {
  if (virtualSize > target.usableBytes) throw largerPvcRequired(`${virtualSize}`, virtualSize, target);
}

/** `LargerPVCRequired` with both figures; `needs` is the image's figure in words, `atLeast` the same as a number. */
export function largerPvcRequired(needs: string, atLeast: number, target: TargetSize): ApplicationFailure {
  const { claimName, usableBytes, overhead } = target;
  const offer = `image needs ${needs} bytes, claim ${claimName} offers ${usableBytes}`;
  if (overhead === undefined) return permanentFailure('LargerPVCRequired', offer);
  const percent = Number((overhead * 100).toFixed(3));
  const after = overhead > 0 ? ` after ${percent}% file system overhead` : '';
  return permanentFailure(
    'LargerPVCRequired',
    `${offer}${after}: ask for at least ${requestFor(atLeast, target)}`,
  );
}
