import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheDirectory } from '../../local/paths.js';
import { endAllGroups, run } from './processes.js';

/** Where a run of the benchmark works, and what it takes away again. */
export interface Workspace {
  /** Kept from run to run: the images, by their version. */
  readonly cache: string;
  /** Of this run alone: targets, scratch, logs. */
  readonly directory: string;
  /** The compiled C programs. */
  readonly programs: string;
  /** Adds a step to what is undone at the end, the last one first; synchronous, since an interrupt waits for nothing. */
  atEnd(undo: () => void): void;
}

/** C programs, with the libraries that they are linked with. */
const PROGRAMS = [
  { source: 'measure.c', output: 'measure', flags: [] },
  { source: 'receive.c', output: 'receive', flags: ['-pthread'] },
  { source: 'decode.c', output: 'decode', flags: ['-pthread', '-lz', '-ldeflate', '-lzstd'] },
  { source: 'slow-disk.c', output: 'slow-disk.so', flags: ['-shared', '-fPIC', '-ldl'] },
] as const;

/** Makes the directories of a run, compiles the programs, and undoes everything when this process ends, interrupted or not. */
export async function openWorkspace(keep: boolean): Promise<Workspace> {
  const cache = join(cacheDirectory(), 'bench');
  mkdirSync(cache, { recursive: true });
  removeAbandoned(cache);
  const directory = join(cache, `run-${process.pid}`);
  const programs = join(directory, 'programs');
  mkdirSync(programs, { recursive: true });
  const undone = onExit();
  if (!keep) undone.push(() => rmSync(directory, { recursive: true, force: true }));
  undone.push(endAllGroups);
  for (const { source, output, flags } of PROGRAMS) await compile(source, join(programs, output), flags);
  return { cache, directory, programs, atEnd: (undo) => undone.push(undo) };
}

/** Steps for the end of this process, which an interrupt brings about too. */
function onExit(): (() => void)[] {
  const steps: (() => void)[] = [];
  process.once('exit', () => {
    for (const step of steps.reverse()) {
      try {
        step();
      } catch (error) {
        process.stderr.write(`clean-up: ${String(error)}\n`);
      }
    }
  });
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)
    process.once(signal, () => process.exit(code));
  return steps;
}

/** Removes the directories of runs that were killed. */
function removeAbandoned(cache: string): void {
  for (const name of readdirSync(cache)) {
    const pid = /^run-(\d+)$/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`))
      rmSync(join(cache, name), { recursive: true, force: true });
  }
}

async function compile(source: string, output: string, flags: readonly string[]): Promise<void> {
  const file = fileURLToPath(new URL(`c/${source}`, import.meta.url));
  await run('cc', ['-O2', '-o', output, file, ...flags]);
}
