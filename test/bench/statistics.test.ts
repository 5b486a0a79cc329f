import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { fastest, judge, judgeLimit, judgeOnDisk, ratios, spreadOf, worst } from './statistics.js';

describe('statistics of the benchmark', () => {
  it('take the middle of an odd number and the mean of the two in the middle of an even one', () => {
    assert.deepEqual(spreadOf([3, 1, 2]), { median: 2, min: 1, max: 3 });
    assert.deepEqual(spreadOf([4, 1, 2, 10]), { median: 3, min: 1, max: 10 });
    assert.deepEqual(spreadOf([7]), { median: 7, min: 7, max: 7 });
  });

  it('keep the median between minimum and maximum, whatever the order', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 1 }), (values) => {
        const { median, min, max } = spreadOf(values);
        assert.ok(min <= median && median <= max);
        assert.deepEqual(spreadOf(values.toReversed()), { median, min, max });
      }),
    );
  });

  it('refuse to summarise nothing', () => {
    assert.throws(() => spreadOf([]), /no measurement/);
  });

  it('pair each round with the same round of the peer', () => {
    assert.deepEqual(ratios([1, 2, 4], [2, 2, 2]), [2, 1, 0.5]);
    assert.throws(() => ratios([1, 2], [1]), /round 2/);
  });

  it('choose the method with the best median, not the best run', () => {
    const walls = new Map([
      ['lucky', [1, 9, 9]],
      ['steady', [3, 3, 3]],
    ]);
    assert.equal(fastest(walls), 'steady');
  });
});

describe('a verdict', () => {
  const pairs = { median: 2.4, min: 2.2, max: 2.6 };

  it('passes from what must be', () => {
    assert.equal(judge(pairs, { must: 2.4 }, false), 'pass');
    assert.equal(judge(pairs, { must: 2.3 }, true), 'pass');
  });

  it('of the whole run fails only when no pair gets there', () => {
    assert.equal(judge(pairs, { must: 2.5 }, false), 'within');
    assert.equal(judge(pairs, { must: 2.6 }, false), 'within');
    assert.equal(judge(pairs, { must: 2.7 }, false), 'fail');
  });

  it('of the quick run fails only below 0.8 of what must be', () => {
    assert.equal(judge(pairs, { must: 2.99 }, true), 'within');
    assert.equal(judge(pairs, { must: 3.01 }, true), 'fail');
  });

  it('falls back to the speed of the disk only where the disk alone would fail', () => {
    const at = (median: number): { median: number; min: number; max: number } => ({
      median,
      min: median - 0.1,
      max: median + 0.1,
    });
    const on = (ofDisk: number, reach: number, quick = false): string =>
      judgeOnDisk(pairs, { must: 3.2 }, { ofDisk: at(ofDisk), reach: at(reach), quick });
    assert.equal(on(0.9, 3), 'disk');
    assert.equal(on(0.9, 3.15), 'fail', 'the disk alone comes within its spread');
    assert.equal(on(0.7, 3), 'fail', 'slower than the disk');
    assert.equal(on(0.7, 2.5, true), 'disk');
    assert.equal(on(0.9, 2.6, true), 'fail', 'the disk alone passes the quick run');
    assert.equal(
      judgeOnDisk(pairs, { must: 2.4 }, { ofDisk: at(0.1), reach: at(0.1), quick: false }),
      'pass',
    );
  });

  it('on an upper limit has that leeway in the quick run alone', () => {
    assert.equal(judgeLimit(200, 200, false), 'pass');
    assert.equal(judgeLimit(201, 200, false), 'fail');
    assert.equal(judgeLimit(249, 200, true), 'within');
    assert.equal(judgeLimit(251, 200, true), 'fail');
  });

  it('of several is the worst', () => {
    assert.equal(worst(['pass', 'within', 'pass']), 'within');
    assert.equal(worst(['within', 'fail']), 'fail');
    assert.equal(worst(['pass', 'disk']), 'disk');
    assert.equal(worst(['disk', 'within']), 'within');
    assert.equal(worst([]), 'pass');
  });
});
