import assert from 'node:assert/strict';
import { shareReading } from '../../activities/shared-reading.js';

describe('shareReading', () => {
  it('reads once for all who ask together, and anew for those who ask while it reads', async () => {
    const begun: (() => void)[] = [];
    let reads = 0;
    const ask = shareReading(async () => {
      const mine = ++reads;
      await new Promise<void>((resolve) => begun.push(resolve));
      return mine;
    });
    const first = Promise.all([ask(), ask(), ask()]);
    await new Promise(setImmediate);
    const second = Promise.all([ask(), ask()]);
    await new Promise(setImmediate);
    assert.equal(reads, 1, 'one at a time');
    begun[0]!();
    assert.deepEqual(await first, [1, 1, 1]);
    await new Promise(setImmediate);
    begun[1]!();
    assert.deepEqual(await second, [2, 2]);
  });

  it('tells a failure to those who asked, and reads again for the next', async () => {
    let reads = 0;
    const ask = shareReading(async () => {
      if (++reads === 1) throw new Error('away');
      return reads;
    });
    const both = [ask(), ask()];
    for (const one of both) await assert.rejects(one, /away/);
    assert.equal(await ask(), 2);
  });
});
