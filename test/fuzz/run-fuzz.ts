import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { createCases, type CaseMaker, type FuzzCase } from './cases.js';
import { judge, LIMIT_SECONDS, type Verdict } from './judge.js';
import { prepareRoom } from './room.js';
import { createWorker, ENGINE, type EngineModule, type Ran, type WorkerHandle } from './worker-handle.js';

/** What is fuzzed, and for how long. */
export interface FuzzRun {
  readonly seed: string;
  /** Numbers of the cases, in order; the run ends with them. */
  readonly cases: Iterable<number>;
  /** Where cases are made. @default the system's directory for temporary files */
  readonly directory?: string;
  /** @default {@link ENGINE} */
  readonly engine?: EngineModule;
  /** Seconds without an answer after which a process is killed. @default 10 */
  readonly limitSeconds?: number;
  /** Told of each case. */
  readonly onCase?: (one: FuzzCase, verdict: Verdict) => void;
}

/** Something wrong, and where to find it. */
export interface Finding {
  readonly number: number;
  readonly what: string;
  /** Directory with the image and `case.json`. */
  readonly kept: string;
}

/** What a run has come to. */
export interface FuzzReport {
  readonly seed: string;
  readonly cases: number;
  readonly seconds: number;
  /** Cases by `valid` or `mutated`, and by what came of them. */
  readonly counts: ReadonlyMap<string, number>;
  readonly findings: readonly Finding[];
  /** Largest resident size that a case had, in bytes. */
  readonly peakBytes: number;
}

/** A transfer has a process of its own; one that has made hundreds has their garbage and fragments too, and is judged for them. */
const CASES_OF_A_PROCESS = 100;

/** Makes cases of a seed, converts each in a process of its own kind, and judges them. Images of findings are kept. */
export async function runFuzz(run: FuzzRun): Promise<FuzzReport> {
  const directory = mkdtempSync(`${run.directory ?? tmpdir()}/dvflow-fuzz-`);
  const begun = performance.now();
  const counts = new Map<string, number>();
  const findings: Finding[] = [];
  let [cases, peakBytes] = [0, 0];
  const maker = createCases(run.seed, directory);
  await using worker = createWorker(run.engine ?? ENGINE);
  for (const number of run.cases) {
    if (cases > 0 && cases % CASES_OF_A_PROCESS === 0) await worker.renew();
    const { one, verdict, peak } = await runCase(number, { maker, worker, run });
    const kind = `${one.mutated ? 'mutated' : 'valid'}: ${verdict.outcome}`;
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
    cases += 1;
    peakBytes = Math.max(peakBytes, peak);
    if (verdict.finding !== undefined)
      findings.push(keep(one, verdict.finding, { directory, seed: run.seed }));
    run.onCase?.(one, verdict);
  }
  for (const scrap of ['case', 'family']) rmSync(`${directory}/${scrap}`, { recursive: true, force: true });
  if (findings.length === 0) rmSync(directory, { recursive: true, force: true });
  return { seed: run.seed, cases, seconds: (performance.now() - begun) / 1000, counts, findings, peakBytes };
}

interface Running {
  readonly maker: CaseMaker;
  readonly worker: WorkerHandle;
  readonly run: FuzzRun;
}

async function runCase(
  number: number,
  { maker, worker, run }: Running,
): Promise<{ one: FuzzCase; verdict: Verdict; peak: number }> {
  const one = maker.make(number);
  const since = new Date();
  const ran = await convertOnce(one, worker, run.limitSeconds ?? LIMIT_SECONDS);
  return { one, verdict: judge(one, ran, since), peak: ran.peakBytes };
}

/** A process that does not answer gets a second chance, with twice the time: the machine may have been busy. */
async function convertOnce(one: FuzzCase, worker: WorkerHandle, limitSeconds: number): Promise<Ran> {
  prepareRoom(one.job);
  const first = await worker.run(one.job, limitSeconds * 1000);
  if (first.kind !== 'hung') return first;
  prepareRoom(one.job);
  const second = await worker.run(one.job, 2 * limitSeconds * 1000);
  // it has answered, but has computed for longer than it may
  return second.kind === 'answered' && second.cpuSeconds > limitSeconds
    ? { ...second, kind: 'hung' }
    : second;
}

function keep(
  one: FuzzCase,
  what: string,
  { directory, seed }: { directory: string; seed: string },
): Finding {
  const kept = `${directory}/finding-${one.number}`;
  mkdirSync(kept);
  execFileSync('cp', ['--sparse=always', one.job.image, `${kept}/image`]);
  writeFileSync(`${kept}/case.json`, `${JSON.stringify({ seed, what, ...one }, undefined, 2)}\n`);
  return { number: one.number, what, kept };
}
