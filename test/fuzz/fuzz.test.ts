import assert from 'node:assert/strict';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { useDirectory } from '../image/support/images.js';
import { createCases } from './cases.js';
import { cases } from '../support/breadth.js';
import { UsageError } from '../support/command-line.js';
import { parseOptions } from './options.js';
import { reportText } from './report.js';
import { runFuzz, type FuzzReport } from './run-fuzz.js';

/** Decides the cases that every test run goes through: some of each kind. */
const SEED = 'a test';
/** Two images of each eight are valid, the others are changed. */
const CASES = cases(24, 48);

const upTo = (count: number): number[] => Array.from({ length: count }, (_, number) => number);

describe('the differential fuzzer', function () {
  this.timeout(600_000);
  const directory = useDirectory();

  it(`finds nothing in ${CASES} cases of its seed`, async () => {
    const report = await runFuzz({ seed: SEED, cases: upTo(CASES), directory: directory() });
    assert.deepEqual(report.findings, [], reportText(report));
    const outcomes = [...report.counts.keys()];
    for (const outcome of ['valid: equal', 'mutated: equal', 'mutated: refused, ImageInvalid'])
      assert.ok(outcomes.includes(outcome), reportText(report));
  });

  it('makes the same case again of the same seed and number', () => {
    const one = createCases(SEED, `${directory()}/one`).make(13);
    const other = createCases(SEED, `${directory()}/other`);
    other.make(2);
    const again = other.make(13);
    // the formats' own identifiers and times are drawn by the tools
    assert.deepEqual([again.story, again.job.source], [one.story, one.job.source]);
    assert.notDeepEqual(createCases('another', `${directory()}/one`).make(13).story, one.story);
  });

  /** The fuzzer over an engine with one mistake. */
  async function fuzzWrong(mistake: string, cases = upTo(1)): Promise<FuzzReport> {
    const engine = { url: new URL('./wrong-engine.ts', import.meta.url).href, word: mistake };
    return await runFuzz({ seed: SEED, cases, engine, directory: directory(), limitSeconds: 3 });
  }

  for (const [mistake, found] of [
    ['other data', /^different: Content mismatch at offset 0/],
    ['other size', /^(different: the target has|write outside of the target: the target has) 632098304/],
    ['valid refused', /^valid image refused: ImageInvalid: no/],
    ['untyped', /^untyped failure: TypeError/],
    ['outside', /^read outside of the source: 1000 to 2000 of 1500/],
    ['beside', /^write outside of the target: made beside the target: stray/],
    ['canary', /^write outside of the target: canary-1 beside the target was changed/],
    ['link', /^write outside of the target: a link to a file beside/],
    ['crash', /^crash: ended with 3/],
    ['thrown', /^crash: ended with 1: .*a mistake/s],
    ['hang', /^hang: no answer in 6/],
    ['memory', /^memory: \d+ MiB resident/],
  ] as const)
    it(`finds an engine's mistake: ${mistake}`, async () => {
      const { findings } = await fuzzWrong(mistake);
      assert.equal(findings.length, 1);
      assert.match(findings[0]!.what, found);
      assert.deepEqual(readdirSync(findings[0]!.kept).toSorted(), ['case.json', 'image']);
      assert.ok(!existsSync(`${dirname(findings[0]!.kept)}/case`));
      rmSync(dirname(findings[0]!.kept), { recursive: true });
    });

  it('finds nothing wrong with an engine that makes no mistake', async () => {
    assert.deepEqual((await fuzzWrong('none')).findings, []);
  });

  it('reads its command line', () => {
    assert.deepEqual(parseOptions(['--minutes', '2.5', '--seed', 'x', '--case', '7']), {
      minutes: 2.5,
      seed: 'x',
      only: 7,
    });
    assert.equal(parseOptions(['--cases', '9']).cases, 9);
    for (const wrong of [
      ['--minutes', '0'],
      ['--minutes', 'x'],
      ['--case', '1'],
      ['--seed', 'a', '--case', '-1'],
      ['--nothing'],
      ['more'],
    ])
      assert.throws(() => parseOptions(wrong), UsageError, wrong.join(' '));
  });
});
