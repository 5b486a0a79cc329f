import { FLOORS, isOurs, METHODS, type FloorName, type MethodName } from './methods.js';
import { measure, verify, wallsOf, type Job, type Sample } from './measure.js';
import type { Judgement, Row } from './rows.js';
import {
  fastest,
  judge,
  judgeLimit,
  judgeOnDisk,
  ratios,
  spreadOf,
  worst,
  type Spread,
  type Verdict,
} from './statistics.js';

/** Counted runs of a floor, which nothing is judged by; one more warms up. */
const FLOOR_RUNS = { whole: 3, quick: 2 };

/** Longest that the event loop may be blocked, in ms: heartbeats go through it. */
export const MOST_LOOP_DELAY_MS = 200;

/** Largest resident size of the transferring process, in bytes. */
export const MOST_RSS_BYTES = 256 * 1024 * 1024;

/** Blocks of the target, as a multiple of what `qemu-img convert` allocates for the same disk. */
export const MOST_BLOCKS = 1.02;

/** A judged factor. */
export interface Judged extends Judgement {
  /** The one of {@link Judgement.against} that was fastest. */
  readonly peer: MethodName;
  /** Peer's time over ours. */
  readonly ratio: Spread;
  /** The bare disk's time over ours, where it was measured. */
  readonly ofDisk?: Spread;
  readonly verdict: Verdict;
}

/** A judged upper limit. */
export interface Limit {
  readonly name: string;
  readonly value: number;
  readonly most: number;
  readonly verdict: Verdict;
}

/** Everything measured for one row. */
export interface RowResult {
  readonly row: Row;
  readonly imageBytes: number;
  /** Counted runs of each method, by round. */
  readonly samples: ReadonlyMap<MethodName, readonly Sample[]>;
  readonly ours: 'ours' | 'ours-checked';
  readonly beside: ReadonlyMap<MethodName, readonly Sample[]>;
  readonly floors: ReadonlyMap<FloorName, readonly Sample[]>;
  readonly judged: readonly Judged[];
  readonly limits: readonly Limit[];
  readonly verdict: Verdict;
}

/** How a row is run. */
export interface RowRun {
  readonly job: Job;
  readonly pairs: number;
  readonly quick: boolean;
  readonly referenceBytes: number;
  /** Told of each counted round. */
  readonly onRound: (round: number, samples: ReadonlyMap<MethodName, Sample>) => void;
}

/**
 * Measures a row: the methods in turns, forwards in even rounds and backwards in odd ones; the first round warms up, and its results
 * are compared with the disk.
 * @throws when a method fails or its result is wrong
 */
export async function runRow(
  row: Row,
  { job, pairs, quick, referenceBytes, onRound }: RowRun,
): Promise<RowResult> {
  const ours = row.checksum === true ? 'ours-checked' : 'ours';
  const names: readonly MethodName[] = [ours, ...new Set(row.judgements.flatMap(({ against }) => against))];
  const samples = new Map<MethodName, Sample[]>(names.map((name) => [name, []]));
  const disk: Sample[] = [];
  for (let round = 0; round <= pairs; round += 1) {
    const measured = await runRound(round % 2 === 0 ? names : [...names].reverse(), job, round === 0);
    const bare = row.onDisk === true ? [await measure(FLOORS.disk, job)] : [];
    if (round === 0) continue;
    disk.push(...bare);
    for (const [name, sample] of measured) samples.get(name)?.push(sample);
    onRound(round, measured);
  }
  const judged = row.judgements.map((judgement) => judgeRow(judgement, samples, { ours, quick, disk }));
  const limits = limitsOf(samples.get(ours) ?? [], { quick, referenceBytes });
  return {
    row,
    imageBytes: job.image.bytes,
    samples,
    ours,
    beside: await runSeveral(quick ? [] : (row.beside ?? []), METHODS, { job, quick }),
    // of the small disk the start of the process is a part worth knowing
    floors: new Map([
      ...(await runSeveral(quick ? [...row.floors, 'start'] : row.floors, FLOORS, { job, quick })),
      ...(disk.length > 0 ? [['disk', disk] as const] : []),
    ]),
    judged,
    limits,
    verdict: worst([...judged, ...limits].map(({ verdict }) => verdict)),
  };
}

async function runRound(
  names: readonly MethodName[],
  job: Job,
  first: boolean,
): Promise<ReadonlyMap<MethodName, Sample>> {
  const measured = new Map<MethodName, Sample>();
  for (const name of names) {
    measured.set(name, await measure(METHODS[name], job, { ours: isOurs(name) }));
    if (first) await verify(METHODS[name], job);
  }
  return measured;
}

async function runSeveral<Name extends FloorName | MethodName>(
  names: readonly Name[],
  methods: Readonly<Record<Name, (typeof METHODS)[MethodName]>>,
  { job, quick }: Pick<RowRun, 'job' | 'quick'>,
): Promise<ReadonlyMap<Name, readonly Sample[]>> {
  const results = new Map<Name, Sample[]>();
  for (const name of names) {
    const runs: Sample[] = [];
    for (let round = 0; round <= (quick ? FLOOR_RUNS.quick : FLOOR_RUNS.whole); round += 1) {
      const sample = await measure(methods[name], job);
      if (round === 0) await verify(methods[name], job);
      else runs.push(sample);
    }
    results.set(name, runs);
  }
  return results;
}

/** Judges one factor of a row against the fastest of the methods that it names, and against the bare disk where it is the limit. */
export function judgeRow(
  judgement: Judgement,
  samples: ReadonlyMap<MethodName, readonly Sample[]>,
  {
    ours,
    quick,
    disk = [],
  }: { readonly ours: MethodName; readonly quick: boolean; readonly disk?: readonly Sample[] },
): Judged {
  const walls = (name: MethodName): readonly number[] => wallsOf(samples.get(name));
  const peer = fastest(new Map(judgement.against.map((name) => [name, walls(name)])));
  const ratio = spreadOf(ratios(walls(ours), walls(peer)));
  const judged = { ...judgement, peer, ratio, verdict: judge(ratio, judgement, quick) };
  if (disk.length === 0) return judged;
  const ofDisk = spreadOf(ratios(walls(ours), wallsOf(disk)));
  const reach = spreadOf(ratios(wallsOf(disk), walls(peer)));
  return { ...judged, ofDisk, verdict: judgeOnDisk(ratio, judgement, { ofDisk, reach, quick }) };
}

/** Judges what the engine's runs must not exceed. */
export function limitsOf(
  samples: readonly Sample[],
  { quick, referenceBytes }: { readonly quick: boolean; readonly referenceBytes: number },
): readonly Limit[] {
  const most = (figure: (sample: Sample) => number): number => Math.max(...samples.map(figure));
  const limit = (name: string, value: number, limit: number): Limit => ({
    name,
    value,
    most: limit,
    verdict: judgeLimit(value, limit, quick),
  });
  return [
    limit('peak RSS in bytes', most(rssOf), MOST_RSS_BYTES),
    limit(
      'event loop blocked, ms',
      most(({ conversion }) => conversion?.stats.maxLoopDelayMs ?? 0),
      MOST_LOOP_DELAY_MS,
    ),
    limit(
      'target blocks, of qemu-img convert',
      most(({ targetBytes }) => targetBytes) / referenceBytes,
      MOST_BLOCKS,
    ),
  ];
}

/** Largest resident size in bytes: what the engine says, or what the kernel says of the largest process of its tree. */
export function rssOf({ conversion, maxRssBytes }: Sample): number {
  return Math.max(conversion?.stats.peakRssBytes ?? 0, maxRssBytes);
}
