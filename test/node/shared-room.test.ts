import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { createNodeActivities } from '../../activities/node/index.js';
import type { ReservedDirectory } from '../../activities/types.js';
import { tryFileSystem } from '../image/support/clone.js';
import { MIB, useDirectory } from '../image/support/images.js';
import { HOST, request } from './support.js';

describe('the room of a pool whose file system shares blocks', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  const node = createNodeActivities({ node: HOST });

  /** Room in MiB, when all volumes have been looked at again. */
  async function roomOf(pool: string): Promise<number> {
    execFileSync('sync', ['--file-system', pool]);
    await pause(1_200);
    const { roomBytes } = await node.observePool({
      pool: { path: pool, useNamingPrefix: false },
      foreignBytes: 0,
    });
    return roomBytes / MIB;
  }

  for (const type of ['xfs', 'btrfs'] as const)
    it(`is promised once: a clone that shares its blocks uses nothing of its promise (${type})`, async function () {
      using mounted = tryFileSystem(directory(), type, 1024);
      if (!mounted) return this.skip();
      const pool = `${mounted.path}/pool`;
      mkdirSync(pool);
      const reserve = async (n: number): Promise<ReservedDirectory> =>
        await node.reserveDirectory(request(pool, n, { requestBytes: 200 * MIB }));
      const diskOf = (reserved: ReservedDirectory): string => `${pool}/${reserved.directory}/disk.img`;
      const source = diskOf(await reserve(0));
      execFileSync('dd', ['if=/dev/urandom', `of=${source}`, 'bs=1M', 'count=200'], { stdio: 'ignore' });
      const before = await roomOf(pool);
      const clones = [await reserve(1), await reserve(2)].map(diskOf);
      for (const clone of clones) execFileSync('cp', ['--reflink=always', source, clone]);
      const near = (actual: number, expected: number): void =>
        assert.ok(Math.abs(actual - expected) < 24, `${actual} MiB of room, ${expected} were expected`);
      // nobody has looked at the volumes since
      assert.equal((await reserve(3)).refused, undefined);
      const after = before - 600;
      near(await roomOf(pool), after);
      assert.ok((await reserve(4)).refused, 'four promises of 200 MiB are all that there is room for');
      for (const clone of clones)
        execFileSync('dd', ['if=/dev/urandom', `of=${clone}`, 'bs=1M', 'count=200', 'conv=notrunc'], {
          stdio: 'ignore',
        });
      near(await roomOf(pool), after);
      rmSync(source);
      near(await roomOf(pool), after);
    });
});
