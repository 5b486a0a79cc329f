import { measure, verify, type Job, type Sample } from './measure.js';
import { METHODS } from './methods.js';
import { watchTree, type TreeMemory } from './process-tree.js';
import { limitsOf, MOST_RSS_BYTES, type Limit } from './run-row.js';
import { prepareSparse, type SparseDisk, type SparseImage } from './sparse.js';
import { judgeLimit } from './statistics.js';
import type { Images } from './images.js';

/** What the slow disk writes, in bytes per second; loopback brings more than ten times as much. */
const SLOW_DISK_BYTES = 80 * 1024 * 1024;

/** What the children of the transferring process, such as xz, may have together, in bytes. */
const MOST_CHILDREN_BYTES = 192 * 1024 * 1024;

/** One conversion whose memory is watched. */
export interface MemoryCase extends SparseDisk {
  readonly title: string;
  readonly slowDisk: boolean;
  /** Reads all of a large disk: too long for the quick run. */
  readonly long?: boolean;
}

const DATA_MIB = 512;

/** Small disk and large, fast disk and slow, and what has children of its own. */
export const MEMORY_CASES: readonly MemoryCase[] = [
  { title: 'qcow2, 6 GiB', gib: 6, dataMib: DATA_MIB, slowDisk: false },
  { title: 'qcow2, 6 GiB', gib: 6, dataMib: DATA_MIB, slowDisk: true },
  { title: 'qcow2, 200 GiB', gib: 200, dataMib: DATA_MIB, slowDisk: false },
  { title: 'qcow2, 200 GiB', gib: 200, dataMib: DATA_MIB, slowDisk: true },
  { title: 'zlib qcow2, 200 GiB', gib: 200, dataMib: DATA_MIB, kind: 'zlib', slowDisk: false },
  { title: 'zlib qcow2, 200 GiB', gib: 200, dataMib: DATA_MIB, kind: 'zlib', slowDisk: true },
  { title: 'qcow2.xz, 200 GiB', gib: 200, dataMib: DATA_MIB, kind: 'xz', slowDisk: true },
  { title: 'raw, 200 GiB', gib: 200, dataMib: DATA_MIB, kind: 'raw', slowDisk: false, long: true },
];

/** What came of one case. */
export interface MemoryResult {
  readonly case: MemoryCase;
  readonly sample: Sample;
  readonly tree: TreeMemory;
  readonly limits: readonly Limit[];
}

/** How the cases are run. */
export interface MemoryRun {
  readonly images: Images;
  readonly quick: boolean;
  readonly log: (line: string) => void;
  /** The job for an image. */
  readonly jobFor: (sparse: SparseImage, env: Readonly<Record<string, string>>) => Job;
  readonly onResult: (result: MemoryResult) => void;
}

/** Makes the images of the cases. */
export async function prepareMemory({
  images,
  quick,
  log,
}: Pick<MemoryRun, 'images' | 'quick' | 'log'>): Promise<void> {
  for (const one of casesOf(quick)) await prepareSparse(images, one, log);
}

/** Converts each image once, looks at the process tree meanwhile, and compares the result. */
export async function runMemory(run: MemoryRun): Promise<readonly MemoryResult[]> {
  const results: MemoryResult[] = [];
  for (const one of casesOf(run.quick)) {
    const result = await runCase(one, run);
    results.push(result);
    run.onResult(result);
  }
  return results;
}

const casesOf = (quick: boolean): readonly MemoryCase[] =>
  MEMORY_CASES.filter(({ long = false }) => !(quick && long));

async function runCase(one: MemoryCase, { images, quick, log, jobFor }: MemoryRun): Promise<MemoryResult> {
  const sparse = await prepareSparse(images, one, log);
  const job = jobFor(sparse, {});
  const slowed = one.slowDisk ? jobFor(sparse, slowDisk(job)) : job;
  let tree: ReturnType<typeof watchTree> | undefined;
  const sample = await measure(METHODS.ours, slowed, {
    ours: true,
    onStart: (pid) => (tree = watchTree(pid)),
  });
  const memory = tree?.end();
  if (memory === undefined) throw new Error('the process tree was not seen');
  await verify(METHODS.ours, job);
  if (one.slowDisk && sample.wallSeconds < (0.9 * sample.targetBytes) / SLOW_DISK_BYTES)
    throw new Error(
      `${one.title}: the disk was not slow: ${sample.targetBytes} bytes in ${sample.wallSeconds} s`,
    );
  return { case: one, sample, tree: memory, limits: memoryLimits(sample, memory, quick) };
}

/** Writes of the engine take as long as on a slow disk. */
function slowDisk({ workspace }: Job): Readonly<Record<string, string>> {
  return {
    LD_PRELOAD: `${workspace.programs}/slow-disk.so`,
    SLOW_DISK_BYTES: String(SLOW_DISK_BYTES),
  };
}

function memoryLimits(sample: Sample, tree: TreeMemory, quick: boolean): readonly Limit[] {
  const own = Math.max(tree.largestBytes, sample.conversion?.stats.peakRssBytes ?? 0);
  const limit = (name: string, value: number, most: number): Limit => ({
    name,
    value,
    most,
    verdict: judgeLimit(value, most, quick),
  });
  return [
    limit('peak RSS in bytes', own, MOST_RSS_BYTES),
    limit('peak RSS of the children in bytes', tree.othersBytes, MOST_CHILDREN_BYTES),
    ...limitsOf([sample], { quick, referenceBytes: sample.targetBytes }).filter(({ name }) =>
      name.startsWith('event'),
    ),
  ];
}
