import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { fastest, judge, judgeQuick, judgeLimit, ratios, spreadOf, worst } from './statistics.js';

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
    assert.equal(judge(pairs, { must: 2.4 }), 'pass');
    assert.equal(judgeQuick([1, 1], [2.3, 2.3], { must: 2.3 }, { start: 0 }), 'pass');
  });

  it('of the whole run fails only when no pair gets there', () => {
    assert.equal(judge(pairs, { must: 2.5 }), 'within');
    assert.equal(judge(pairs, { must: 2.6 }), 'within');
    assert.equal(judge(pairs, { must: 2.7 }), 'fail');
  });

  it('of the quick run fails only below 0.8 of what must be', () => {
    const against = (must: number) => judgeQuick([1, 1, 1], [2.2, 2.4, 2.6], { must }, { start: 0 });
    assert.equal(against(2.99), 'within');
    assert.equal(against(3.01), 'fail');
  });

  it('of the quick run leaves out what the process needs to start', () => {
    const after = (start: number) => judgeQuick([1, 1], [2.3, 2.3], { must: 3 }, { start });
    assert.equal(after(0), 'fail');
    assert.equal(after(0.05), 'within');
    assert.equal(judgeQuick([0.1], [0.2], { must: 3 }, { start: 0.2 }), 'within');
  });

  it('of the quick run asks nobody to be faster than the disk', () => {
    const on = (disk: number) => judgeQuick([0.75], [0.6], { must: 1.4 }, { start: 0.1, disk });
    assert.equal(on(0.51), 'within');
    assert.equal(on(0.49), 'fail');
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
    assert.equal(worst([]), 'pass');
  });
});
