import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** A process that was started, named so that a recycled pid is never taken for it. */
export interface ProcessRecord {
  readonly pid: number;
  /** Clock ticks after boot at which it started (`/proc/<pid>/stat`, field 22). */
  readonly startTime: string;
  /** The boot in which it started (`/proc/sys/kernel/random/boot_id`). */
  readonly boot: string;
  readonly log: string;
}

/** Everything needed to start one process. */
export interface Command {
  readonly file: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly log: string;
}

interface Stat {
  readonly state: string;
  readonly session: number;
  readonly startTime: string;
}

/**
 * Starts a process in its own session, its output appended to the log file.
 * @throws when the program cannot be started
 */
export async function startDetached(command: Command): Promise<ProcessRecord> {
  mkdirSync(dirname(command.log), { recursive: true });
  const log = openSync(command.log, 'a', 0o600);
  try {
    const child = spawn(command.file, command.args, {
      detached: true,
      env: command.env,
      stdio: ['ignore', log, log],
    });
    await new Promise<void>((started, failed) => {
      child.once('spawn', started);
      child.once('error', failed);
    });
    child.unref();
    const pid = child.pid as number;
    return { pid, startTime: readStat(pid)?.startTime ?? 'ended', boot: bootId(), log: command.log };
  } finally {
    closeSync(log);
  }
}

/** Whether this very process still runs; a zombie does not. */
export function isAlive(record: ProcessRecord): boolean {
  const stat = record.boot === bootId() ? readStat(record.pid) : undefined;
  return stat !== undefined && stat.startTime === record.startTime && stat.state !== 'Z';
}

/** Sends a signal to the process if it is still the one that was started. */
export function signalProcess(record: ProcessRecord, signal: NodeJS.Signals): boolean {
  return isAlive(record) && send(record.pid, signal);
}

/**
 * Ends the process and every process of its session: SIGTERM, and SIGKILL for what is left after the patience.
 * Resolves when none of them is left.
 */
export async function endProcess(record: ProcessRecord, patienceMs: number): Promise<void> {
  const deadline = Date.now() + patienceMs;
  signalProcess(record, 'SIGTERM');
  while (isAlive(record) && Date.now() < deadline) await sleep(50);
  for (let members = sessionOf(record); members.length > 0; members = sessionOf(record)) {
    for (const pid of members) send(pid, 'SIGKILL');
    await sleep(20);
  }
}

/** Names the stack in the environment of each of its processes. */
export const STACK_MARK = 'DVFLOW_LOCAL_STACK';

/** Kills what the stack in a directory has started and, because its start was killed, never recorded. */
export async function endStrays(directory: string): Promise<void> {
  const mark = `${STACK_MARK}=${directory}`;
  for (let strays = marked(mark); strays.length > 0; strays = marked(mark)) {
    for (const pid of strays) send(pid, 'SIGKILL');
    await sleep(20);
  }
}

function marked(mark: string): readonly number[] {
  return pids().filter((pid) => {
    try {
      return pid !== process.pid && readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').includes(mark);
    } catch {
      return false; // gone, or somebody else's
    }
  });
}

/** Pids of the live processes that belong to the session of the process, itself included. */
export function sessionOf(record: ProcessRecord): readonly number[] {
  if (record.boot !== bootId()) return [];
  const leader = readStat(record.pid);
  // The kernel gives a pid out again only when no session carries that number any more:
  // another process under it means that nothing of ours is left.
  if (leader !== undefined && leader.startTime !== record.startTime) return [];
  return pids().filter((pid) => {
    const stat = readStat(pid);
    return stat !== undefined && stat.session === record.pid && stat.state !== 'Z';
  });
}

function pids(): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function send(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

/** Reads `/proc/<pid>/stat`; the fields are counted after the name, which may hold spaces and brackets. */
function readStat(pid: number): Stat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0] ?? '', session: Number(fields[3]), startTime: fields[19] ?? '' };
  } catch {
    return undefined;
  }
}

function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}
