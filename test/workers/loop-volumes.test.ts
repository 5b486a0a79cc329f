import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readlinkSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { createNodeActivities } from '../../activities/node/index.js';
import { keepLoopVolumes } from '../../workers/loop-volumes.js';
import { eventually } from '../live/world.js';
import { HOST, inRun, isRoot, makePool } from '../node/support.js';

describe('block volumes when a node worker starts', function () {
  this.timeout(90_000);

  before(function () {
    if (isRoot) return;
    this.test!.title += ' (loop devices need root)';
    this.skip();
  });

  it('that take long keep it from nothing: they come when they can, those of other pools at once, or once they are there', async () => {
    const pool = await makePool();
    const context = {
      node: HOST,
      stateDirectory: join(pool.base, 'state'),
      deviceDirectory: join(pool.base, 'devices'),
    };
    const ending = new AbortController();
    const said: string[] = [];
    const node = createNodeActivities(context);
    const device = (name: string): string => readlinkSync(join(context.deviceDirectory, name));
    const loops = ['--all', '--list', '--noheadings', '--raw', '--output', 'NAME,BACK-FILE'];
    /** Devices over files of a pool, as the kernel has them: the link follows a moment later. */
    const devicesIn = (name: string): readonly string[] =>
      execFileSync('losetup', loops, { encoding: 'utf8' })
        .split('\n')
        .filter((line) => line.includes(join(pool.base, name)))
        .map((line) => line.slice(0, line.indexOf(' ')));
    const there = (name: string): boolean => devicesIn(name).length > 0;
    try {
      for (const name of ['busy', 'free', 'away']) {
        const plan = {
          name,
          node: HOST,
          hostname: HOST,
          pool: join(pool.base, name),
          bytes: 1 << 20,
          storageClass: 'local',
          preallocation: false,
          labels: {},
          foreignBytes: 0,
          exists: false,
        };
        await inRun('run-1', () => node.createLoopVolume({ plan }));
        execFileSync('losetup', ['--detach', device(name)]);
      }
      const away = join(pool.base, 'away');
      renameSync(away, `${away}.unmounted`);
      const lock = join(pool.base, 'busy/.dvflow/lock');
      const holder = spawn('flock', [lock, 'sh', '-c', 'echo held && read _'], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      await once(holder.stdout, 'data');
      const logger = { warn: (message: string) => said.push(message) };
      // nothing is looked at again before the first look is over
      await keepLoopVolumes(context, logger, ending.signal, { firstMs: 5_000, againMs: 8_000 });
      assert.deepEqual(said, [
        'block volume has no device yet',
        'block volumes take long to look at: the worker starts meanwhile',
      ]);
      assert.deepEqual(['busy', 'free'].map(there), [false, true]);
      renameSync(`${away}.unmounted`, away);
      await eventually(
        'that of a pool that is mounted by now',
        30_000,
        async () => there('away') || undefined,
      );
      assert.equal(there('busy'), false);
      holder.stdin.end('\n');
      await eventually('the other device', 20_000, async () => there('busy') || undefined);
    } finally {
      ending.abort();
      for (const found of devicesIn('')) execFileSync('losetup', ['--detach', found]);
      await pool.remove();
    }
  });
});
