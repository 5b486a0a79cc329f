import type { ApplicationFailure } from '@temporalio/common';
import { permanentFailure, transientFailure } from '../failures.js';
import { codeOf } from '../node/directories.js';

/** A device or file system that is full. */
const FULL = ['ENOSPC', 'EDQUOT'];
/** One that fails, was made read-only by its kernel, or is gone: it may be well again later, or on another node. */
const LOST = ['EIO', 'EROFS', 'EPERM', 'ENXIO', 'ENODEV'];

/**
 * An error of the target by its type: a full file system or quota is `NoSpace`, which is waited for, whatever ran into it; one that
 * fails is `NodeUnavailable`; one whose files cannot be so large is `LargerPVCRequired`. Any other error is itself. `doing` ends the
 * sentence about the target: `cannot be <doing>`.
 */
export function noSpaceOr<E>(error: E, doing: 'written' | 'read' = 'written'): E | ApplicationFailure {
  const code = String(codeOf(error));
  if (FULL.includes(code))
    return transientFailure('NoSpace', `no space left on the volume's file system (${code})`, {
      cause: error,
    });
  if (code === 'EFBIG')
    return permanentFailure(
      'LargerPVCRequired',
      "the target's file system cannot hold a file as large as the disk (EFBIG)",
      error,
    );
  if (LOST.includes(code))
    return transientFailure('NodeUnavailable', `the target cannot be ${doing} (${code})`, { cause: error });
  return error;
}

/** Rejects as {@link noSpaceOr} says. */
export async function orNoSpace<T>(work: Promise<T>, doing?: 'written' | 'read'): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw noSpaceOr(error, doing);
  }
}
