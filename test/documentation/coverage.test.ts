import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { projectPath, readDocument } from '../docs/documents.js';
import { TABLE } from './checker/hook.js';
import { judgeTable, parseTable, RULES } from './checker/table.js';

/** What `npm test` runs: `test/**` without `test/long/**`. */
const isTestFile = (file: string): boolean =>
  /^test\/(?!long\/).+\.test\.ts$/.test(file) && existsSync(projectPath(file));

describe(TABLE, () => {
  it('has every statement once, few facts with their reasons, and open rows only where that is allowed', () => {
    const problems = judgeTable(parseTable(readDocument(TABLE)), { ...RULES, isTestFile });
    assert.deepEqual(problems, []);
  });
});
