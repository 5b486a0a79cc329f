import { writeFileSync } from 'node:fs';
import { statusFieldOf, ticksOf } from '../support/process-facts.js';

/** Clock ticks of `/proc/<pid>/stat` a second: 100 on every Linux that Node runs on. */
const TICKS = 100;

/** Largest resident size since {@link forgetPeak}, in bytes; 0 where the process is gone. */
export function peakOf(pid: number): number {
  return Number(statusFieldOf(pid, 'VmHWM')) * 1024;
}

/** Begins a new peak. */
export function forgetPeak(pid: number): void {
  try {
    writeFileSync(`/proc/${pid}/clear_refs`, '5');
  } catch {
    // a kernel without it: the peak is that of all jobs, which is a stricter bound
  }
}

/** Seconds of processor time of a process, its threads and its children that have ended. */
export function cpuSecondsOf(pid: number): number {
  const { own, children } = ticksOf(pid);
  return (own + children) / TICKS;
}
