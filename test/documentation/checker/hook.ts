/** The last hook of a run: fails it when a test that the coverage table names has failed, is missing or was renamed. */
import { readFileSync } from 'node:fs';
import { judgeRun, readRun, summary } from './run.js';
import { parseTable } from './table.js';

/** Table of a project. */
export const TABLE = 'docs/documentation-coverage.md';

/** A root `after` hook for the table of the project in that directory. Nothing that a test does may come after it. */
export function coverageHook(root: string): Mocha.Func {
  return function checkCoverage(this: Mocha.Context): void {
    const suite = this.test?.parent;
    if (suite?.root !== true) throw new Error('the coverage is checked around all suites');
    const rows = parseTable(readFileSync(`${root}/${TABLE}`, 'utf8'));
    const verdict = judgeRun(rows, readRun(suite, root));
    const line = summary(rows, verdict);
    if (line !== undefined) console.log(`\n  ${line}`);
    if (verdict.problems.length > 0) throw new Error(`${TABLE}:\n${verdict.problems.join('\n')}`);
  };
}
