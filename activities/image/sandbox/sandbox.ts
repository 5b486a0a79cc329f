import { spawn, type ChildProcess } from 'node:child_process';
import { Duplex } from 'node:stream';
import { transientFailure } from '../../failures.js';
import { confineCommand } from './confine-command.js';
import { cpuSecondsOf } from './cpu-time.js';
import { namespaceCommands } from './namespaces.js';

/** Where programs and the tools around them are looked for, inside and outside. */
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const STDERR_TAIL = 4096;
const STRAGGLER_MS = 500;

/** How much a program may take. */
export interface SandboxLimits {
  /** Address space, in bytes. */
  readonly memoryBytes: number;
  /** Time of all its threads together. */
  readonly cpuSeconds: number;
}

/** What is run. */
export interface SandboxedProgram extends SandboxLimits {
  readonly file: string;
  readonly args: readonly string[];
  /** Connected sockets that the program gets as descriptors 3, 4, …. */
  readonly sockets: number;
}

/** A program that runs in a sandbox. */
export interface Sandboxed {
  /** Our ends of its sockets: its only way to the world. */
  readonly sockets: readonly Duplex[];
  /** Resolves when it has ended. */
  readonly ended: Promise<SandboxedEnd>;
  /** CPU time that it has taken so far; never less than was said before, and 0 where the kernel does not tell. */
  cpuSeconds(): number;
  /** Ends it at once, and whatever it started. */
  kill(): void;
}

/** How a program ended. */
export interface SandboxedEnd {
  readonly code: number | null;
  readonly killedBy: NodeJS.Signals | null;
  /** The last of what it said. May quote what it read: not for messages. */
  readonly stderr: string;
}

/** A way to run programs that this machine has shown to work. */
export interface Sandbox {
  run(program: SandboxedProgram): Sandboxed;
}

/**
 * Finds a way to run a program that may turn against us, with no network, no file but the system's own programs and libraries,
 * no other process in reach, no privilege, and bounded memory and time. Rather than without one of these it is not run: a
 * decoder that was taken over would else reach what the address policy keeps from it, and other tenants' disks.
 * @throws {@link FailureType} `NodeUnavailable` where the kernel's settings and our rights allow none
 */
export async function findSandbox(ways = sandboxes(process.getuid?.() ?? 0)): Promise<Sandbox> {
  for (const way of ways) if (await works(way)) return way;
  throw transientFailure(
    'NodeUnavailable',
    'this machine offers no sandbox for qemu-img: user namespaces are forbidden (user.max_user_namespaces, ' +
      'kernel.apparmor_restrict_unprivileged_userns, or a seccomp profile), and so is Landlock with seccomp',
  );
}

/** Every way that this version knows, the best first; some need rights, or a kernel, that are not here. */
export function sandboxes(uid: number): Sandbox[] {
  const spaces = namespaceCommands(uid).map((command): Sandbox => ({
    run: (program) => start(command, program),
  }));
  return [...spaces, { run: (program) => start(confineCommand(program.sockets), program) }];
}

async function works(sandbox: Sandbox): Promise<boolean> {
  const limits = { memoryBytes: 2 ** 30, cpuSeconds: 10 };
  const { code } = await sandbox.run({ file: 'true', args: [], sockets: 0, ...limits }).ended;
  return code === 0;
}

function start(
  command: readonly string[],
  { file, args, sockets, memoryBytes, cpuSeconds }: SandboxedProgram,
): Sandboxed {
  const limits = [
    `--as=${memoryBytes}`,
    `--cpu=${cpuSeconds}`,
    '--fsize=0',
    '--core=0',
    '--nofile=64',
    '--memlock=0',
  ];
  const [first = '', ...rest] = [...command, 'prlimit', ...limits, '--', file, ...args];
  const pipes = Array.from({ length: sockets }, () => 'pipe' as const);
  const child = spawn(first, rest, {
    stdio: ['ignore', 'ignore', 'pipe', ...pipes],
    // a group of its own, so that nothing of it is left behind
    detached: true,
    cwd: '/',
    // fewer arenas: the limit is on address space, not on memory in use
    env: { PATH, LC_ALL: 'C', MALLOC_ARENA_MAX: '2' },
  });
  const ended = endOf(child);
  // without descriptors left there are no streams, whatever the types say
  const streams: readonly unknown[] | undefined = child.stdio;
  const ends = (streams ?? []).slice(3).filter((end): end is Duplex => end instanceof Duplex);
  for (const end of ends) end.on('error', () => undefined);
  return { sockets: ends, ended, cpuSeconds: countCpu(child), kill: () => killGroup(child) };
}

function countCpu(child: ChildProcess): () => number {
  let most = 0;
  return () => {
    const { pid } = child;
    if (pid !== undefined && !hasEnded(child)) most = Math.max(most, cpuSecondsOf(pid));
    return most;
  };
}

function endOf(child: ChildProcess): Promise<SandboxedEnd> {
  let stderr = '';
  child.stderr?.setEncoding('latin1');
  child.stderr?.on('data', (chunk: string) => (stderr = (stderr + chunk).slice(-STDERR_TAIL)));
  return new Promise((resolve) => {
    // a tool that is not there, or no memory to start it
    child.once('error', () => resolve({ code: null, killedBy: null, stderr }));
    child.once('exit', (code, killedBy) => {
      const end = (): void => resolve({ code, killedBy, stderr });
      if (!child.stderr || child.stderr.closed) return end();
      child.stderr.once('close', end);
      // kept open by something that it started and left behind
      setTimeout(end, STRAGGLER_MS).unref();
    });
  });
}

/** The number of one that has ended may be another's. */
function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}

function killGroup(child: ChildProcess): void {
  const { pid } = child;
  if (pid === undefined || hasEnded(child)) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // it has ended, and Node does not know yet
  }
}
