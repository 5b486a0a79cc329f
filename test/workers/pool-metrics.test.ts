import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Metrics } from '../../workers/metrics/index.js';
import { poolMetrics, type PoolMetrics } from '../../workers/metrics/pools.js';
import { eventually } from '../live/world.js';
import { isRoot } from '../node/support.js';
import { holdHungMount } from '../support/mounts.js';

const node = 'node-1';

describe('metrics of pools', function () {
  this.timeout(40_000);
  let directory: string;
  let shown: Map<string, number>;
  let pools: PoolMetrics;
  let said: string[];
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'dvflow-pools-'));
    shown = new Map();
    const metrics: Metrics = {
      record: (metric, value, labels = {}) => shown.set(`${metric} ${labels.node} ${labels.pool}`, value),
    };
    const say = (message: string, { pool }: Record<string, unknown> = {}) =>
      said.push(`${message}: ${String(pool)}`);
    said = [];
    pools = poolMetrics(metrics, { node, logger: { info: say, warn: say } });
  });
  afterEach(async () => {
    pools.stop();
    await rm(directory, { recursive: true });
  });

  const value = (metric: string): number | undefined =>
    shown.get(`dvflow_pool_${metric} ${node} ${directory}`);
  const pool = () => ({ path: directory, useNamingPrefix: false });

  it('are shown at once for a pool that an activity names for the first time', async () => {
    pools.begin('observePool', [{ pool: pool(), foreignBytes: 0 }]);
    await eventually('the figures', 20_000, async () => value('promises'));
    assert.deepEqual([value('usable'), value('promises'), value('promised_bytes')], [1, 0, 0]);
    assert.ok(value('capacity_bytes')! >= value('room_bytes')!);
  });

  it('are no figures, but for usable, where the directory is gone', async () => {
    pools.begin('observePool', [{ pool: pool(), foreignBytes: 0 }]);
    await eventually('the figures', 20_000, async () => value('usable'));
    await rm(directory, { recursive: true });
    await pools.refresh();
    assert.deepEqual([value('usable'), value('room_bytes')], [0, NaN]);
    await pools.refresh();
    await mkdir(directory);
    for (const _ of [1, 2]) await pools.refresh();
    assert.deepEqual(said, [`pool cannot be used: ${directory}`, `pool can be used again: ${directory}`]);
    await rm(directory, { recursive: true });
    directory = await mkdtemp(join(tmpdir(), 'dvflow-pools-'));
  });

  it('are taken back once the sweeper names other pools only', async () => {
    pools.begin('observePool', [{ pool: pool(), foreignBytes: 0 }]);
    await eventually('the figures', 20_000, async () => value('usable'));
    pools.begin('listUnpublishedDirectories', [{ pools: [] }]);
    await pools.refresh();
    assert.deepEqual([value('usable'), value('shared_with_os')], [NaN, NaN]);
  });

  it('are none of a pool that this node is not to have, although it is swept', async () => {
    pools.begin('listUnpublishedDirectories', [{ pools: [pool()], judged: [] }]);
    await pools.refresh();
    assert.equal(shown.size, 0);
    pools.begin('listUnpublishedDirectories', [{ pools: [pool()], judged: [directory] }]);
    await pools.refresh();
    assert.equal(value('usable'), 1);
    pools.begin('listUnpublishedDirectories', [{ pools: [pool()], judged: [] }]);
    assert.equal(value('usable'), NaN);
  });

  it('are no figures, but for usable, of a pool that does not answer; those of others go on, and it is said once', async function () {
    if (!isRoot) return this.skip();
    mkdirSync(join(directory, 'hung'));
    await using hung = await holdHungMount(join(directory, 'hung'));
    pools.begin('listUnpublishedDirectories', [{ pools: [{ path: hung.path }, pool()] }]);
    // more often than libuv has threads
    for (const _ of Array(12)) {
      await pools.refresh();
      const usable = shown.get(`dvflow_pool_usable ${node} ${hung.path}`);
      assert.deepEqual([usable, value('usable')], [0, 1]);
    }
    assert.deepEqual(said, [`pool cannot be used: ${hung.path}`]);
  });

  it('care for nothing else in the input of an activity', () => {
    for (const input of [undefined, null, 'text', { pool: 'path' }, { pools: 7 }, { pool: null }])
      pools.begin('anything', [input]);
    assert.equal(shown.size, 0);
  });
});
