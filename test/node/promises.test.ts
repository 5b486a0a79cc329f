import assert from 'node:assert/strict';
import { readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createNodeActivities } from '../../activities/node/index.js';
import { openPool } from '../../activities/node/pool.js';
import { readPromises } from '../../activities/node/promises.js';
import { inProcess, makePool, request } from './support.js';

const node = createNodeActivities({ node: 'node-1' });

describe('promises that are known', () => {
  let pool: Awaited<ReturnType<typeof makePool>>;
  beforeEach(async () => {
    pool = await makePool();
  });
  afterEach(() => pool.remove());

  /** What this process believes, and what the files say. */
  async function assertKnown(bytes: number): Promise<void> {
    await using opened = await openPool(pool.path, { node: 'node-1' });
    const known = await readPromises(opened);
    const files = await readdir(join(pool.path, '.dvflow/promises'));
    const read = await Promise.all(
      files.map(async (file) => {
        const text = await readFile(join(pool.path, '.dvflow/promises', file), 'utf8');
        return { ...(JSON.parse(text) as object), file };
      }),
    );
    const byFile = (one: { file: string }, other: { file: string }): number =>
      one.file < other.file ? -1 : 1;
    assert.deepEqual([...known].sort(byFile), read.sort(byFile));
    assert.equal(
      known.reduce((sum, promise) => sum + promise.bytes, 0),
      bytes,
    );
  }

  it('are those of the files after each reservation, removal and move', async () => {
    const first = await node.reserveDirectory(request(pool.path, 1));
    await assertKnown(1 << 20);
    await node.reserveDirectory(request(pool.path, 2, { requestBytes: 4096 }));
    await assertKnown((1 << 20) + 4096);
    await node.publishDirectory({ directory: first });
    // a second volume of the same DataVolume: the first keeps its bytes, under another name
    const claim = { namespace: 'team-a', name: 'vm1', uid: 'claim-9' };
    await node.reserveDirectory(request(pool.path, 1, { claim, requestBytes: 8192 }));
    await assertKnown((1 << 20) + 4096 + 8192);
    const volume = { name: 'pv', uid: 'pv-1', node: 'node-1', path: `${pool.path}/${first.directory}` };
    await node.removeVolumeData({ volume: { ...volume, pool: { path: pool.path, useNamingPrefix: false } } });
    await assertKnown(4096 + 8192);
  });

  it('are read again when another process has made or removed one', async function () {
    this.timeout(60_000);
    await node.reserveDirectory(request(pool.path, 1));
    const [made] = await inProcess({ call: 'reserve', inputs: [request(pool.path, 2)] });
    await assertKnown(2 << 20);
    await inProcess({ call: 'remove', inputs: [made] });
    await assertKnown(1 << 20);
  });

  it('are read again when somebody writes one of them anew, or takes one away', async () => {
    const { dataVolume } = await node.reserveDirectory(request(pool.path, 1));
    await node.reserveDirectory(request(pool.path, 2));
    await assertKnown(2 << 20);
    // times are no finer than the kernel's tick
    await new Promise((resolve) => setTimeout(resolve, 20));
    const file = join(pool.path, '.dvflow/promises', dataVolume.uid);
    const promise = JSON.parse(await readFile(file, 'utf8')) as object;
    await writeFile(join(pool.path, 'new'), JSON.stringify({ ...promise, bytes: 512 }));
    await rename(join(pool.path, 'new'), file);
    await assertKnown((1 << 20) + 512);
    await rm(file);
    await assertKnown(1 << 20);
  });

  it('that cannot be read stop every reservation, known or not', async () => {
    await node.reserveDirectory(request(pool.path, 1));
    await writeFile(join(pool.path, '.dvflow/promises/broken'), '{}');
    await assert.rejects(node.reserveDirectory(request(pool.path, 2)), /promise .*broken is not readable/);
    await rm(join(pool.path, '.dvflow/promises/broken'));
    await node.reserveDirectory(request(pool.path, 2));
    await assertKnown(2 << 20);
  });

  it('that cannot be read are named, and keep no other volume from being removed', async () => {
    const pools = [{ path: pool.path, useNamingPrefix: false }];
    const [first, second] = [
      await node.reserveDirectory(request(pool.path, 1)),
      await node.reserveDirectory(request(pool.path, 2)),
    ];
    await node.publishDirectory({ directory: first });
    const broken = join(pool.path, '.dvflow/promises/broken');
    await writeFile(broken, '');
    const named = new RegExp(`${broken} is not readable: `);
    await assert.rejects(node.observePool({ pool: pools[0]!, foreignBytes: 0 }), named);
    await assert.rejects(node.reserveDirectory(request(pool.path, 3)), named);
    const { pools: seen } = await node.examineNode({ pools });
    assert.match(seen[0]?.message ?? '', named);
    const path = `${pool.path}/${first.directory}`;
    await node.removeVolumeData({
      volume: { name: 'pv', uid: 'pv-1', node: 'node-1', path, pool: pools[0]! },
    });
    await node.removeDirectory({ directory: second });
    assert.deepEqual(await readdir(join(pool.path, '.dvflow/promises')), ['broken']);
    await rm(broken);
    await assertKnown(0);
  });

  it('of a thousand volumes cost a reservation no more than those of a few', async function () {
    this.timeout(60_000);
    await node.reserveDirectory(request(pool.path, 0));
    const promise = { bytes: 1, dataVolume: { namespace: 'a', name: 'b', uid: 'c' } };
    const fill = async (from: number, to: number): Promise<void> => {
      for (let n = from; n < to; n += 1) {
        const text = JSON.stringify({ ...promise, directory: `pvc-other-${n}` });
        await writeFile(join(pool.path, '.dvflow/promises', `other-${n}`), text);
      }
    };
    /** The fastest of ten, in ms: any of them may wait for the disk. The one before them reads what was written here. */
    const time = async (from: number): Promise<number> => {
      await node.reserveDirectory(request(pool.path, from));
      let fastest = Infinity;
      for (let n = from + 1; n < from + 11; n += 1) {
        const startedAt = performance.now();
        await node.reserveDirectory(request(pool.path, n));
        fastest = Math.min(fastest, performance.now() - startedAt);
      }
      return fastest;
    };
    await fill(0, 10);
    const few = await time(100);
    await fill(10, 2_000);
    const many = await time(200);
    // reading two thousand files each time took twenty times as long
    assert.ok(many < 4 * few + 20, `a reservation beside 10 promises: ${few} ms, beside 2000: ${many} ms`);
  });
});
