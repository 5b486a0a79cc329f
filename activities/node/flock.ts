import { spawn } from 'node:child_process';
import { promisify } from 'node:util';
import { systemCall } from '../image/decode/native.js';

/** What became of a lock. */
export interface FlockOutcome {
  /** 0 where it is held now, 1 where somebody else kept it. */
  readonly code: number | null;
  /** What the tool said, in its own words. */
  readonly said: string;
}

/** `LOCK_EX | LOCK_NB` of `flock(2)`: no waiting. */
const EXCLUSIVE_AT_ONCE = 2 | 4;

interface Flock {
  readonly async: (
    fd: number,
    operation: number,
    done: (error: Error | null, result: number) => void,
  ) => void;
}

/**
 * Locks an open file exclusively, and waits `waitSeconds` for it at most. The lock belongs to the open description: it stays until
 * the last process that has one of its descriptors closes it, however it dies. A lock that is free is taken by the C library's
 * function (Node has none), off the event loop, since the file system may be one that does not answer: to start util-linux' tool takes 10 ms, in which a process with much memory does nothing else. That tool
 * waits where somebody else holds it, and does all where the library cannot be called.
 * @throws `ENOENT` where the tool is needed and not installed
 */
export async function flock(fd: number, waitSeconds: number): Promise<FlockOutcome> {
  const native = systemCall<Flock>('int flock(int, int)');
  if (native && (await promisify(native.async)(fd, EXCLUSIVE_AT_ONCE)) === 0) return { code: 0, said: '' };
  return await flockByTool(fd, waitSeconds);
}

/** It locks the description that it inherits as descriptor 3. */
async function flockByTool(fd: number, waitSeconds: number): Promise<FlockOutcome> {
  return await new Promise((resolve, reject) => {
    const child = spawn('flock', ['-x', '-w', `${waitSeconds}`, '3'], {
      stdio: ['ignore', 'ignore', 'pipe', fd],
    });
    let said = '';
    child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, said: said.trim() }));
  });
}
