import type { ApplicationFailure } from '@temporalio/common';
import { transientFailure } from '../failures.js';
import { codeOf } from '../node/directories.js';

/** A full file system or quota as `NoSpace`, which is waited for, whatever ran into it; any other error is itself. */
export function noSpaceOr<E>(error: E): E | ApplicationFailure {
  const code = codeOf(error);
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return error;
  return transientFailure('NoSpace', `no space left on the volume's file system (${code})`, { cause: error });
}

/** Rejects as {@link noSpaceOr} says. */
export async function orNoSpace<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw noSpaceOr(error);
  }
}
