import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { transientFailure } from '../failures.js';
import type { DataVolumeRef } from '../types.js';
import { childPath } from './directories.js';
import { flock } from './flock.js';

/** An earlier attempt's child that was told to stop is gone by then. In seconds. */
const LOCK_WAIT_S = 10;

/**
 * Locks the private directory of a transfer, so that nobody else writes to its volume. The lock lives as long as a process that
 * inherits the descriptor.
 * @throws {@link FailureType} retried: `NodeUnavailable` while an earlier attempt still writes
 */
export async function takeTransferLock(
  state: FileHandle,
  { namespace, name }: DataVolumeRef,
): Promise<FileHandle> {
  const { O_RDWR, O_CREAT, O_NOFOLLOW } = constants;
  const lock = await open(childPath(state, 'lock'), O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
  const { code } = await flock(lock.fd, LOCK_WAIT_S);
  if (code === 0) return lock;
  await lock.close();
  throw transientFailure(
    'NodeUnavailable',
    `an earlier attempt still writes to the disk of ${namespace}/${name} after ${LOCK_WAIT_S} s`,
  );
}
