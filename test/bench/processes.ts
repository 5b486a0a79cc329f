import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { createWriteStream, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';

const OUTPUT_TAIL = 4096;

/** Administrators' programs (nginx, mke2fs, tc) are often left out of an ordinary user's PATH. */
const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;

/** How a program is run. */
export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Ended with its whole process group after so many ms. @default 30 minutes */
  readonly timeoutMs?: number;
  /** Told once it runs. */
  readonly onStart?: (pid: number) => void;
}

const groups = new Set<number>();

/**
 * Runs a program as the leader of a process group of its own, and resolves with what it printed.
 * @throws with the tail of its output when it ends otherwise than with 0
 */
export async function run(
  file: string,
  args: readonly string[],
  { timeoutMs = 30 * 60_000, onStart, ...options }: RunOptions = {},
): Promise<string> {
  const child = start(file, args, ['ignore', 'pipe', 'pipe'], options);
  let stdout = '';
  let tail = '';
  const keep = (chunk: Buffer): void => {
    tail = (tail + chunk.toString()).slice(-OUTPUT_TAIL);
  };
  child.stdout?.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
    keep(chunk);
  });
  child.stderr?.on('data', keep);
  if (child.pid !== undefined) onStart?.(child.pid);
  const timer = setTimeout(() => endGroup(child.pid), timeoutMs);
  try {
    const [code, signal] = await closed(child);
    if (code !== 0) throw new Error(`${file} ended with ${signal ?? code}: ${tail.trim() || 'no output'}`);
    return stdout;
  } finally {
    clearTimeout(timer);
    // what a failed pipeline left running
    endGroup(child.pid);
  }
}

/** Runs lines of bash that fail as soon as any command of a pipeline does. */
export async function bash(script: string, options: RunOptions = {}): Promise<string> {
  return await run('bash', ['-euo', 'pipefail', '-c', script], options);
}

/** Starts a server as the leader of a process group, with its output in a log; `onExit` hears of its end. */
export function startServer(
  [file, ...args]: readonly [string, ...string[]],
  log: string,
  onExit: (code: number | null) => void,
): number {
  mkdirSync(dirname(log), { recursive: true });
  const child = start(file, args, ['ignore', 'pipe', 'pipe'], {});
  const output = createWriteStream(log, { flags: 'a' });
  child.stdout?.pipe(output, { end: false });
  child.stderr?.pipe(output, { end: false });
  child.once('exit', (code) => {
    groups.delete(child.pid ?? 0);
    onExit(code);
  });
  if (child.pid === undefined) throw new Error(`${file} cannot be started`);
  return child.pid;
}

/** Ends a group that was started here: at once, with everything in it. */
export function endGroup(pid: number | undefined): void {
  if (pid === undefined || !groups.delete(pid)) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // nothing of it is left
  }
}

/** Ends every group that was started here and still runs. */
export function endAllGroups(): void {
  for (const pid of [...groups]) endGroup(pid);
}

function start(
  file: string,
  args: readonly string[],
  stdio: StdioOptions,
  { env = {}, cwd }: RunOptions,
): ChildProcess {
  const child = spawn(file, args, {
    detached: true,
    env: { ...process.env, PATH, LC_ALL: 'C.UTF-8', ...env },
    stdio,
    ...(cwd === undefined ? {} : { cwd }),
  });
  if (child.pid !== undefined) groups.add(child.pid);
  return child;
}

async function closed(child: ChildProcess): Promise<readonly [number | null, NodeJS.Signals | null]> {
  return await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve([code, signal]));
  });
}
