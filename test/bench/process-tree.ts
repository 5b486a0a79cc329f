import { readdirSync, readFileSync } from 'node:fs';

/** How often the tree is looked at, in ms. */
const EVERY_MS = 100;

/** The programs of the benchmark itself, between it and the method. */
const HARNESS: readonly string[] = ['measure', 'bash'];

/** Peak resident sizes of a process tree, in bytes. */
export interface TreeMemory {
  /** Of the process that was largest: the one that transfers. */
  readonly largestBytes: number;
  readonly largestName: string;
  /** Of all the others together, at one moment. */
  readonly othersBytes: number;
  readonly otherNames: readonly string[];
}

/** One process at one moment; sizes in bytes. */
export interface ProcessMemory {
  readonly pid: number;
  readonly name: string;
  readonly rss: number;
  /** Largest so far, by the kernel. */
  readonly peak: number;
}

/** Watches the tree below a process from now on; `end` says how large it grew. */
export function watchTree(root: number): { readonly end: () => TreeMemory } {
  const moments: (readonly ProcessMemory[])[] = [];
  const look = (): void => {
    moments.push(below(root).flatMap((pid) => memoryOf(pid) ?? []));
  };
  const timer = setInterval(look, EVERY_MS);
  return {
    end: () => {
      clearInterval(timer);
      return summarise(moments);
    },
  };
}

/** What a series of looks at a tree comes to, the benchmark's own programs left out. */
export function summarise(moments: readonly (readonly ProcessMemory[])[]): TreeMemory {
  const seen = moments.map((moment) => moment.filter(({ name }) => !HARNESS.includes(name)));
  const [largest] = seen.flat().sort((one, other) => other.peak - one.peak);
  const others = seen.map((moment) => moment.filter(({ pid }) => pid !== largest?.pid));
  const together = others.map((moment) => moment.reduce((sum, { rss }) => sum + rss, 0));
  const single = others.flat().map(({ peak }) => peak);
  return {
    largestBytes: largest?.peak ?? 0,
    largestName: largest?.name ?? '',
    // a short peak of one of them can fall between two looks, but not between those of the kernel
    othersBytes: Math.max(0, ...together, ...single),
    otherNames: [...new Set(others.flat().map(({ name }) => name))],
  };
}

/** Children of a process, of any of its threads. */
export function childrenOf(pid: number): readonly number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
      readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8')
        .split(' ')
        .filter((child) => child !== '')
        .map(Number),
    );
  } catch {
    // it has ended meanwhile
    return [];
  }
}

function below(pid: number): readonly number[] {
  return [pid, ...childrenOf(pid).flatMap(below)];
}

function memoryOf(pid: number): ProcessMemory | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/status`, 'utf8');
    const field = (name: string): string => new RegExp(`^${name}:\\s+(\\S+)`, 'm').exec(text)?.[1] ?? '';
    return {
      pid,
      name: field('Name'),
      rss: Number(field('VmRSS')) * 1024,
      peak: Number(field('VmHWM')) * 1024,
    };
  } catch {
    return undefined;
  }
}
