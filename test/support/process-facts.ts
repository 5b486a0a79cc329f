/** What the kernel tells of a process. Of one that has ended it tells nothing: zeros and empty texts. */
import { readFileSync } from 'node:fs';

/** A field of `/proc/<pid>/status`, as it is written there without its unit: `VmHWM` in KiB, `Name`, …; `''` where it is absent. */
export function statusFieldOf(pid: number, name: string): string {
  return new RegExp(`^${name}:\\s+(\\S+)`, 'm').exec(read(`/proc/${pid}/status`))?.[1] ?? '';
}

/** Processor time in clock ticks: of its threads as user and system, and of its children that have ended. */
export function ticksOf(pid: number): { readonly own: number; readonly children: number } {
  const text = read(`/proc/${pid}/stat`);
  const [user, system, childUser, childSystem] = text
    .slice(text.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 15)
    .map(Number);
  return { own: (user ?? 0) + (system ?? 0), children: (childUser ?? 0) + (childSystem ?? 0) };
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
