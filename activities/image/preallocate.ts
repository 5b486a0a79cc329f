import { ftruncate } from 'node:fs';
import { promisify } from 'node:util';
import { permanentFailure, transientFailure } from '../failures.js';
import type { Owner } from '../node/directories.js';
import { runTool, ToolError } from './tools.js';

const truncateFile = promisify(ftruncate);

/** A file whose blocks are to be allocated. */
export interface Preallocation {
  readonly fd: number;
  readonly bytes: number;
  /** Whose it is, for messages: `claim team-a/vm1`. */
  readonly what: string;
  readonly signal: AbortSignal;
  /** Who allocates: root would take what its file system keeps back for root. @default whoever calls */
  readonly user?: Owner | undefined;
}

/**
 * Allocates all blocks of a file; of one that has not got them all, nothing is left.
 * @throws {@link FailureType} `IncompatiblePVC` where its file system does not do that; `NoSpace`
 */
export async function preallocate({ fd, bytes, what, signal, user }: Preallocation): Promise<void> {
  try {
    // what it says is read below
    await runTool('env', ['LC_ALL=C', 'fallocate', '--length', `${bytes}`, '/proc/self/fd/3'], {
      fds: [fd],
      signal,
      user,
    });
  } catch (error) {
    // what was allocated is for others, until the next attempt
    await truncateFile(fd, 0);
    signal.throwIfAborted();
    const message = `${bytes} bytes cannot be preallocated for ${what}`;
    if (error instanceof ToolError && /not supported/i.test(error.stderr))
      throw permanentFailure(
        'IncompatiblePVC',
        `${message}: its file system does not do that; leave preallocation out, or use another class`,
        error,
      );
    throw transientFailure('NoSpace', message, { cause: error });
  }
}
