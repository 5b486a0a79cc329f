import { readFileSync } from 'node:fs';

/** `USER_HZ`, in which the kernel counts for programs, on every architecture that Node runs on. */
const TICKS_A_SECOND = 100;
/** Fields of `/proc/PID/stat` (proc(5)) after the command's name: `utime` and `stime`. */
const USER_TIME = 11;
const SYSTEM_TIME = 12;

/**
 * CPU time in seconds of a process and of all below it that live: a sandbox's first process may only wait for the one that works.
 * What cannot be read counts nothing: that of a process that has ended, or children where the kernel does not list them
 * (`CONFIG_PROC_CHILDREN`).
 */
export function cpuSecondsOf(pid: number): number {
  const children = readOr(`/proc/${pid}/task/${pid}/children`).split(' ').map(Number).filter(Boolean);
  return ownSeconds(pid) + children.reduce((sum, child) => sum + cpuSecondsOf(child), 0);
}

function ownSeconds(pid: number): number {
  const stat = readOr(`/proc/${pid}/stat`);
  // a name may hold spaces and parentheses
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[USER_TIME] ?? 0) + Number(fields[SYSTEM_TIME] ?? 0)) / TICKS_A_SECOND;
}

function readOr(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
