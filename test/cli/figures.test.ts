import assert from 'node:assert/strict';
import { duration, percent, readFigure, span, timeLeft } from '../../cli/render/figures.js';
import { HALF_DONE } from './status.js';

describe('figures', () => {
  for (const [ms, text] of [
    [0, '0s'],
    [119_000, '119s'],
    [120_000, '2m'],
    [192_000, '3m12s'],
    [7_500_000, '2h5m'],
    [3 * 86_400_000 + 4 * 3_600_000, '3d4h'],
  ] as const) {
    it(`writes ${ms} ms as ${text}`, () => assert.equal(duration(ms), text));
  }

  for (const [ms, text] of [
    [4, '0.00s'],
    [54, '0.05s'],
    [1_300, '1.3s'],
    [45_200, '45s'],
  ] as const) {
    it(`writes a span of ${ms} ms as ${text}`, () => assert.equal(span(ms), text));
  }

  for (const [fraction, text] of [
    [0, '0.0%'],
    [0.4539, '45.3%'],
    [0.99999, '99.9%'],
    [1, '99.9%'],
  ] as const) {
    it(`never says 100 % before the end: ${fraction} is ${text}`, () =>
      assert.equal(percent(fraction), text));
  }

  it('estimates the time left from the work that is left at the present rate, rounded up', () => {
    assert.equal(timeLeft(HALF_DONE), 8_000);
    assert.equal(timeLeft({ ...HALF_DONE, fraction: 0.501 }), 8_000);
  });

  for (const [why, change] of [
    ['nothing is known of the whole', { fraction: undefined }],
    ['nothing moves', { rate: 0 }],
    ['nothing is done yet', { fraction: 0 }],
  ] as const) {
    it(`estimates nothing while ${why}`, () => {
      const { fraction: _, ...rest } = { ...HALF_DONE, ...change };
      const fraction = 'fraction' in change ? change.fraction : HALF_DONE.fraction;
      assert.equal(timeLeft({ ...rest, ...(fraction === undefined ? {} : { fraction }) }), undefined);
    });
  }

  it('say what is read of how much, while that can be so', () => {
    assert.equal(readFigure({ bytesRead: 1024, bytesReadTotal: 2048 }), 'read 1 KiB of 2 KiB');
    assert.equal(readFigure({ bytesRead: 4096, bytesReadTotal: 2048 }), 'read 4 KiB');
    assert.equal(readFigure({ bytesRead: 4096 }), 'read 4 KiB');
  });
});
