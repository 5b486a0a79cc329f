import type { Images } from './images.js';
import { measure, verify, type Job, type Sample } from './measure.js';
import { isOurs, METHODS, type MethodName } from './methods.js';
import { prepareSparse, type SparseImage } from './sparse.js';
import { takeTurns } from './turns.js';

/** Sizes of the disks, in GiB. */
export const GROWTH_GIB = [1, 4, 16, 64] as const;

/** Methods whose growth is shown. */
export const GROWTH_METHODS = ['ours', 'nbdkit', 'cdi'] as const satisfies readonly MethodName[];

/** Counted rounds; one more warms up. */
const ROUNDS = 3;

/** What each method took for one size. */
export interface GrowthResult {
  readonly gib: number;
  readonly dataMib: number;
  readonly samples: ReadonlyMap<MethodName, readonly Sample[]>;
}

/** How the sizes are run. */
export interface GrowthRun {
  readonly images: Images;
  readonly quick: boolean;
  readonly log: (line: string) => void;
  readonly jobFor: (sparse: SparseImage) => Job;
  readonly onResult: (result: GrowthResult) => void;
}

/** Part of the disk that is data, in percent. */
export const growthPercent = (quick: boolean): number => (quick ? 1 : 5);

const diskOf = (gib: number, quick: boolean) => ({
  gib,
  dataMib: Math.round((gib * 1024 * growthPercent(quick)) / 100),
});

/** Makes the images of all sizes. */
export async function prepareGrowth({
  images,
  quick,
  log,
}: Pick<GrowthRun, 'images' | 'quick' | 'log'>): Promise<void> {
  for (const gib of GROWTH_GIB) await prepareSparse(images, diskOf(gib, quick), log);
}

/** Converts sparse qcow2 images of growing size, the methods in turns. */
export async function runGrowth(run: GrowthRun): Promise<readonly GrowthResult[]> {
  const results: GrowthResult[] = [];
  for (const gib of GROWTH_GIB) {
    const disk = diskOf(gib, run.quick);
    const job = run.jobFor(await prepareSparse(run.images, disk, run.log));
    const result = { ...disk, samples: await runSize(job) };
    results.push(result);
    run.onResult(result);
  }
  return results;
}

async function runSize(job: Job): Promise<ReadonlyMap<MethodName, readonly Sample[]>> {
  return await takeTurns<MethodName>({
    names: GROWTH_METHODS,
    rounds: ROUNDS,
    measure: (name) => measure(METHODS[name], job, { ours: isOurs(name) }),
    verify: (name) => verify(METHODS[name], job),
  });
}
