/** The checker of the coverage table is only worth something if it fails: every way to break a table or a run is tried. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { projectPath } from '../docs/documents.js';
import { SOURCE_LOADER } from '../support/source-loader.js';
import { TABLE } from './checker/hook.js';
import { judgeRun, summary, type Outcome, type Run } from './checker/run.js';
import { judgeTable, parseTable, type TableRules } from './checker/table.js';

/** Three statements, of which the third may be open and the second is not built yet. */
const FAKE: TableRules = {
  statements: 3,
  factsAtMost: 1,
  laterSubjects: new Set([3]),
  notBuiltYet: new Set([2]),
  chapterOf: () => '6.12.1',
  isTestFile: (file) => file === 'test/a.test.ts',
};

const PROVED = '| 1 | 6.12.1.1 | It does what it should | proved | | `test/a.test.ts`: a suite does |';
const UNBUILT = '| 2 | 6.12.1 | It does something else | open | Not built yet: the thing. | |';
const OPEN = '| 3 | 6.12.1 | It takes uploads as well | open | Uploads come with issue 6. | |';
const FACT = '| 3 | 6.12.1 | A client is installed | fact | virtctl is a program of KubeVirt. | |';

const judge = (...lines: string[]): readonly string[] => judgeTable(parseTable(lines.join('\n')), FAKE);

describe('the judgement of a coverage table', () => {
  it('has nothing to say against a right one, and reads pipes and several tests', () => {
    assert.deepEqual(judge(PROVED, UNBUILT, OPEN), []);
    assert.deepEqual(judge(PROVED, UNBUILT, FACT), []);
    const [row] = parseTable('| 7 | 1 | a \\| b | proved | | `x.ts`: a \\| b: `c`<br>`y.ts`: d |');
    assert.deepEqual(
      [row?.statement, row?.tests],
      [
        'a | b',
        [
          { file: 'x.ts', title: 'a | b: `c`' },
          { file: 'y.ts', title: 'd' },
        ],
      ],
    );
  });

  const WRONG: readonly (readonly [what: string, lines: readonly string[], says: RegExp])[] = [
    ['a statement that is missing', [PROVED, OPEN], /^statement 2 is missing$/],
    ['a statement that is there twice', [PROVED, PROVED, UNBUILT, OPEN], /^statement 1 is there twice$/],
    ['one that does not exist', [PROVED, UNBUILT, OPEN, OPEN.replace('3', '4')], /^there is no statement 4$/],
    [
      'too many facts',
      [PROVED, UNBUILT, FACT, FACT.replace('3', '1')],
      /^2 facts about other software, 1 are allowed$/,
    ],
    [
      'a fact without a reason',
      [PROVED, UNBUILT, FACT.replace(/virtctl[^|]*/, '')],
      /3 is a fact .*no reason$/,
    ],
    [
      'an open row without a reason',
      [PROVED, UNBUILT, OPEN.replace(/Uploads[^|]*/, '')],
      /3 is open for no reason$/,
    ],
    [
      'an open row of a subject that is to be full',
      [OPEN.replace('3', '1'), UNBUILT, OPEN],
      /1 is open, but of a subject/,
    ],
    [
      'an unbuilt row that does not say so',
      [PROVED, UNBUILT.replace('Not built yet', 'Later'), OPEN],
      /2 is open without/,
    ],
    [
      'an allowance that nobody needs any more',
      [PROVED, PROVED.replace('1', '2'), OPEN],
      /2 is said to be not built yet/,
    ],
    ['a proof by no test', [PROVED.replace(/`.*does/, ''), UNBUILT, OPEN], /1 is proved by no test$/],
    [
      'an open row that names a test',
      [PROVED, UNBUILT, OPEN.replace(/\| \|$/, '| `test/a.test.ts`: b |')],
      /3 is open and names a test all the same$/,
    ],
    [
      'a file that is none of npm test',
      [PROVED.replace('a.test', 'long/a.test'), UNBUILT, OPEN],
      /no file of npm test/,
    ],
    [
      'another chapter',
      [PROVED.replace('6.12.1.1', '6.12.11'), UNBUILT, OPEN],
      /1 is in section 6\.12\.1, not 6\.12\.11/,
    ],
    ['another kind', [PROVED.replace('proved', 'true'), UNBUILT, OPEN], /1 is of kind "true"/],
    [
      'one test named twice',
      [PROVED.replace(/(`.*) \|$/, '$1<br>$1 |'), UNBUILT, OPEN],
      /1 names a test twice/,
    ],
  ];
  for (const [what, lines, says] of WRONG) {
    it(`refuses ${what}`, () => {
      const problems = judge(...lines);
      assert.ok(
        problems.some((problem) => says.test(problem)),
        JSON.stringify(problems),
      );
    });
  }

  it('does not read a row with other cells, or a test that is named in another way', () => {
    assert.throws(() => judge('| 1 | 6.12.1 | It does | proved |'), /4 cells instead of 6/);
    assert.throws(() => judge('| 1 | 6.12.1 | It does | proved | | a suite does |'), /not `file`: title/);
  });
});

describe('the judgement of a run', () => {
  const rows = parseTable([PROVED, UNBUILT, OPEN].join('\n'));
  const ran = (outcome: Outcome, more: Partial<Run> = {}, title = 'a suite does'): Run => ({
    tests: [{ file: 'test/a.test.ts', title, outcome }],
    only: false,
    root: true,
    ...more,
  });

  it('finds a statement proved whose test has passed', () => {
    const verdict = judgeRun(rows, ran('passed'));
    assert.deepEqual(verdict, { problems: [], proved: [1], skipped: [], notJudged: [] });
    assert.match(
      summary(rows, verdict) ?? '',
      /^documentation coverage: 1 of 3 statements proved by this run; 0 facts; 2 open$/,
    );
  });

  it('fails where the test failed, is missing or has another title', () => {
    assert.match(
      judgeRun(rows, ran('failed')).problems.join(),
      /^statement 1 .* its test failed: test\/a\.test\.ts: a suite does$/,
    );
    assert.match(judgeRun(rows, ran('passed', {}, 'a suite did')).problems.join(), /there is no such test/);
    const twice = ran('passed');
    const both = { ...twice, tests: [...twice.tests, ...ran('failed').tests] };
    assert.match(judgeRun(rows, both).problems.join(), /its test failed/);
  });

  it('tells a skipped test, and fails for it where the run may do everything', () => {
    const skipped = ran('skipped', { root: false }, 'a suite does (needs root)');
    const verdict = judgeRun(rows, skipped);
    assert.deepEqual([verdict.problems, verdict.proved, verdict.skipped], [[], [], [1]]);
    assert.match(summary(rows, verdict) ?? '', /skipped: 1$/);
    assert.match(
      judgeRun(rows, { ...skipped, root: true }).problems.join(),
      /was skipped although this is root/,
    );
    const file = 'test/nodes/a.test.ts';
    const onNodes = { ...ran('skipped'), tests: [{ ...ran('skipped').tests[0]!, file }] };
    const moved = rows.map((row) => ({ ...row, tests: row.tests.map((test) => ({ ...test, file })) }));
    assert.deepEqual(judgeRun(moved, onNodes).problems, []);
  });

  it('does not judge what was not run: another file, a pattern, .only', () => {
    const elsewhere: Run = {
      tests: [{ file: 'test/b.test.ts', title: 'b', outcome: 'passed' }],
      only: false,
      root: true,
    };
    for (const run of [elsewhere, ran('not run'), ran('passed', { only: true }, 'another')])
      assert.deepEqual(judgeRun(rows, run), { problems: [], proved: [], skipped: [], notJudged: [1] });
    assert.equal(summary(rows, judgeRun(rows, elsewhere)), undefined);
  });
});

describe('the hook that checks the coverage, in a run of mocha', function () {
  this.timeout(60_000);
  let directory: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'dvflow-coverage-'));
    mkdirSync(join(directory, 'docs'));
    mkdirSync(join(directory, 'test'));
    const hook = projectPath('test/documentation/checker/hook.ts');
    writeFileSync(
      join(directory, 'hooks.ts'),
      `import { coverageHook } from ${JSON.stringify(hook)};\nexport const mochaHooks = { afterAll: coverageHook(import.meta.dirname) };\n`,
    );
    writeFileSync(join(directory, 'package.json'), '{ "type": "module" }');
    writeFileSync(join(directory, TABLE), `${PROVED}\n`);
  });
  after(() => rmSync(directory, { recursive: true }));

  /** Runs a suite as that file of the project; resolves with the exit code and what was printed. */
  function run(
    suite: string,
    ...args: string[]
  ): { readonly status: number | null; readonly output: string } {
    writeFileSync(join(directory, 'test/a.test.ts'), suite);
    const mocha = projectPath('node_modules/mocha/bin/mocha.js');
    const fixed = ['--no-config', '--no-package', '--require', join(directory, 'hooks.ts')];
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [...SOURCE_LOADER, mocha, ...fixed, ...args, join(directory, 'test/a.test.ts')],
      { encoding: 'utf8', cwd: projectPath('.') },
    );
    return { status, output: stdout + stderr };
  }
  const suite = (body: string): string => `describe('a suite', () => { ${body} });`;

  it('lets a run pass whose named test has passed, and says how much that proves', () => {
    const { status, output } = run(suite("it('does', () => {});"));
    assert.equal(status, 0, output);
    assert.match(output, /documentation coverage: 1 of 1 statements proved by this run/);
  });

  it('fails a run whose tests have all passed, but of which the named one was renamed', () => {
    const { status, output } = run(suite("it('does it', () => {});"));
    assert.equal(status, 1, output);
    assert.match(
      output,
      /statement 1 is not proved, there is no such test: test\/a\.test\.ts: a suite does$/m,
    );
  });

  it('names the statement of a test that fails', () => {
    const { status, output } = run(suite("it('does', () => { throw new Error('no'); });"));
    assert.equal(status, 2, output);
    assert.match(output, /statement 1 is not proved, its test failed/);
  });

  it('fails a run as root that skips the named test', function () {
    const { status, output } = run(suite("before(function () { this.skip(); }); it('does', () => {});"));
    const isRoot = process.getuid?.() === 0;
    assert.equal(status, isRoot ? 1 : 0, output);
    assert.match(output, isRoot ? /was skipped although this is root/ : /skipped: 1/);
  });

  it('lets a run pass that leaves the named test out by a pattern or by .only', () => {
    const both = (only: string): string => suite(`it('does', () => {}); it${only}('other', () => {});`);
    assert.equal(run(both(''), '--grep', 'other').status, 0);
    const only = run(both('.only'));
    assert.equal(only.status, 0, only.output);
  });
});
