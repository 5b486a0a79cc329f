/** What a run of mocha says about the tests that the coverage table names. */
import { relative, sep } from 'node:path';
import type { NamedTest, Row } from './table.js';

/** How a test ended; `not run`: a pattern, a failed hook or an earlier end of the run left it out. */
export type Outcome = 'passed' | 'failed' | 'skipped' | 'not run';

/** The tests of one run, as far as they were loaded. */
export interface Run {
  readonly tests: readonly (NamedTest & { readonly outcome: Outcome })[];
  /** Tests were left out with `.only`: those are not even listed. */
  readonly only: boolean;
  /** The run may do everything that tests do: then none has a reason to be skipped. */
  readonly root: boolean;
}

/** The judgement of a run: what makes it fail, and what is said besides. */
export interface Verdict {
  readonly problems: readonly string[];
  /** Numbers of statements by what became of their tests; those with a problem may be in none of them. */
  readonly proved: readonly number[];
  readonly skipped: readonly number[];
  readonly notJudged: readonly number[];
}

/** Outcomes under a root suite whose tests have run; paths are told from `root`. */
export function readRun(suite: Mocha.Suite, root: string): Run {
  const tests: Run['tests'][number][] = [];
  suite.eachTest((test) => {
    const file = relative(root, test.file ?? '').replaceAll(sep, '/');
    tests.push({ file, title: test.fullTitle(), outcome: outcomeOf(test) });
  });
  return { tests, only: hasOnly(suite), root: process.getuid?.() === 0 };
}

/** Mocha has the method and does not declare it. */
function hasOnly(suite: Mocha.Suite): boolean {
  return (suite as Mocha.Suite & { hasOnly(): boolean }).hasOnly();
}

function outcomeOf(test: Mocha.Test): Outcome {
  if (test.isFailed()) return 'failed';
  if (test.isPending()) return 'skipped';
  return test.isPassed() ? 'passed' : 'not run';
}

/**
 * Judges the rows whose tests are in files that were loaded. A test of such a file must be there under its title and must not have
 * failed. One that was skipped is no proof: without root it is told, with root it is a problem, but for real nodes: root of a
 * container may not have the cgroups and mounts that they need.
 */
export function judgeRun(rows: readonly Row[], run: Run): Verdict {
  const files = new Set(run.tests.map(({ file }) => file));
  const verdict = {
    problems: [] as string[],
    proved: [] as number[],
    skipped: [] as number[],
    notJudged: [] as number[],
  };
  for (const { number, tests } of rows) {
    if (tests.length === 0) continue;
    const outcomes = tests.map((test) => (files.has(test.file) ? find(test, run) : 'not run'));
    verdict.problems.push(...tests.flatMap((test, index) => problemOf(number, test, outcomes[index]!, run)));
    if (outcomes.every((outcome) => outcome === 'passed')) verdict.proved.push(number);
    else if (outcomes.includes('skipped')) verdict.skipped.push(number);
    else if (outcomes.includes('not run')) verdict.notJudged.push(number);
  }
  return verdict;
}

/** What some tests add to their title where the process is not root, with what they leave out for it. */
const WANT_OF_ROOT = / \([^()]*needs? root\)$/;

/** The worst of all tests of that name. */
function find({ file, title }: NamedTest, { tests, only }: Run): Outcome | 'missing' {
  const outcomes = tests
    .filter((test) => test.file === file && test.title.replace(WANT_OF_ROOT, '') === title)
    .map(({ outcome }) => outcome);
  if (outcomes.length === 0) return only ? 'not run' : 'missing';
  return (['failed', 'skipped', 'not run'] as const).find((worst) => outcomes.includes(worst)) ?? 'passed';
}

/** Tests that say which of the machine's means is missing, root or not. */
const ON_REAL_NODES = /^test\/nodes\//;

function problemOf(
  number: number,
  { file, title }: NamedTest,
  outcome: Outcome | 'missing',
  { root }: Run,
): readonly string[] {
  const test = `${file}: ${title}`;
  if (outcome === 'failed') return [`statement ${number} is not proved, its test failed: ${test}`];
  if (outcome === 'missing') return [`statement ${number} is not proved, there is no such test: ${test}`];
  if (outcome === 'skipped' && root && !ON_REAL_NODES.test(file))
    return [`statement ${number} is not proved, its test was skipped although this is root: ${test}`];
  return [];
}

/** One line for people; nothing where no test of the table was run. */
export function summary(rows: readonly Row[], { proved, skipped, notJudged }: Verdict): string | undefined {
  if (proved.length + skipped.length === 0) return undefined;
  const count = (kind: string): number => rows.filter((row) => row.kind === kind).length;
  const parts = [
    `${proved.length} of ${rows.length} statements proved by this run`,
    `${count('fact')} facts`,
    `${count('open')} open`,
    ...(skipped.length > 0 ? [`skipped: ${skipped.join(', ')}`] : []),
    ...(notJudged.length > 0 ? [`not wholly part of this run: ${notJudged.length}`] : []),
  ];
  return `documentation coverage: ${parts.join('; ')}`;
}
