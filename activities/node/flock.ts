import { spawn } from 'node:child_process';

/** What became of a lock. */
export interface FlockOutcome {
  /** 0 where it is held now, 1 where somebody else kept it. */
  readonly code: number | null;
  /** What the tool said, in its own words. */
  readonly said: string;
}

/**
 * Locks an open file exclusively, and waits `waitSeconds` for it at most. Util-linux' tool locks the description that it inherits as
 * descriptor 3; that stays locked after the tool has ended, until the last process that has the descriptor closes it, however it
 * dies. (Node has no `flock(2)`.)
 * @throws `ENOENT` where the tool is not installed
 */
export async function flock(fd: number, waitSeconds: number): Promise<FlockOutcome> {
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
