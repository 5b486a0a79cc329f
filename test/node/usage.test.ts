import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { lastUsage, refreshUsage } from '../../activities/node/usage.js';

describe('a look at what volumes occupy', () => {
  it('is taken again in time although the clock is set back', async () => {
    const { now } = Date;
    let looks = 0;
    const measure = async () => {
      looks += 1;
      return { bytes: new Map(), shared: new Map(), capacityBytes: looks };
    };
    await refreshUsage('/clock', measure);
    await refreshUsage('/clock', measure);
    assert.equal(looks, 1, 'at most as often as it costs little');
    try {
      Date.now = () => now() - 3_600_000;
      await pause(1_100);
      await refreshUsage('/clock', measure);
    } finally {
      Date.now = now;
    }
    assert.equal(lastUsage('/clock')?.capacityBytes, 2);
  });
});
