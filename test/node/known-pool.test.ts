import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { openTransferTarget } from '../../activities/image/transfer-target.js';
import { createNodeActivities } from '../../activities/node/index.js';
import { withPoolLock } from '../../activities/node/lock.js';
import { openPool } from '../../activities/node/pool.js';
import { memoryIn } from '../../activities/node/pool-memory.js';
import { observePool } from '../../activities/node/room.js';
import { openSourceDisk } from '../../activities/node/source-volume.js';
import type { ReservedDirectory } from '../../activities/types.js';
import type { Metrics } from '../../workers/metrics/index.js';
import { poolMetrics } from '../../workers/metrics/pools.js';
import { refusal } from '../image/support/refused.js';
import { HOST, inProcess, makePool, request, transferred, writeDisk } from './support.js';

const SIZE = 1 << 20;

describe('a pool that had volumes', () => {
  let pool: Awaited<ReturnType<typeof makePool>>;
  let stateDirectory: string;
  let memory: string;
  let node: ReturnType<typeof createNodeActivities>;
  let directory: ReservedDirectory;
  beforeEach(async () => {
    pool = await makePool();
    stateDirectory = join(pool.base, 'state');
    memory = memoryIn(stateDirectory);
    node = createNodeActivities({ node: HOST, stateDirectory });
    directory = await node.reserveDirectory(request(pool.path, 1));
  });
  afterEach(() => pool.remove());

  const ref = () => ({ path: pool.path, useNamingPrefix: false });
  /** Renamed away and back: to this process the same as unmounted and mounted. */
  const unmount = () => rename(pool.path, `${pool.path}.away`);
  const mountAgain = async () => {
    await rm(pool.path, { recursive: true, force: true });
    await rename(`${pool.path}.away`, pool.path);
  };
  const away = (has: RegExp) => refusal('NodeUnavailable', has, false);
  const volume = () => ({
    name: 'pv-1',
    uid: 'pv-uid-1',
    node: HOST,
    path: join(pool.path, directory.directory),
    pool: ref(),
  });

  /** Everything that is done with a pool, by name. */
  const uses = (): Readonly<Record<string, () => Promise<unknown>>> => ({
    observePool: () => node.observePool({ pool: ref(), foreignBytes: 0 }),
    'reserveDirectory of its own': () => node.reserveDirectory(request(pool.path, 1)),
    'reserveDirectory of another': () => node.reserveDirectory(request(pool.path, 2)),
    openTransferTarget: () => openTransferTarget(directory, { memory }),
    verifyImage: () =>
      node.verifyImage({ directory, transferred: transferred(SIZE), contentType: 'kubevirt' }),
    publishDirectory: () => node.publishDirectory({ directory }),
    removeDirectory: () => node.removeDirectory({ directory }),
    removeVolumeData: () => node.removeVolumeData({ volume: volume() }),
    listUnpublishedDirectories: () => node.listUnpublishedDirectories({ pools: [ref()] }),
    openSourceDisk: () =>
      openSourceDisk(
        {
          volume: 'pv-1',
          volumeUid: 'pv-uid-1',
          node: HOST,
          path: volume().path,
          volumeMode: 'Filesystem',
        },
        memory,
      ),
    ensureBackingDirectory: () => node.ensureBackingDirectory({ pool: ref(), labelledBy: 'node' }),
    verifyBackingDirectory: () => node.verifyBackingDirectory({ path: pool.path }),
  });

  async function assertAllRefused(message: RegExp): Promise<void> {
    for (const [name, use] of Object.entries(uses())) {
      const expected = away(name === 'openSourceDisk' ? /does not exist/ : message);
      await assert.rejects(use(), expected, name);
    }
    const { pools } = await node.examineNode({ pools: [ref()] });
    assert.notEqual(pools[0]?.state, 'usable');
  }

  it('is waited for where its mount point is empty, which stays so', async () => {
    await unmount();
    await mkdir(pool.path);
    await assertAllRefused(
      /has no \.dvflow any more: its file system is not mounted.* rm \/.*\.json && mkdir -p \/.*\/\.dvflow$/,
    );
    assert.deepEqual(await readdir(pool.path), []);
    await mountAgain();
    await writeDisk(directory, { size: SIZE });
    await node.verifyImage({ directory, transferred: transferred(SIZE), contentType: 'kubevirt' });
    assert.equal((await node.observePool({ pool: ref(), foreignBytes: 0 })).promisedBytes, SIZE);
  });

  it('is waited for where its mount point is missing, and none is made', async () => {
    await unmount();
    await assertAllRefused(/has no \.dvflow any more/);
    assert.ok(!existsSync(pool.path));
  });

  it('is waited for where another pool is mounted, as one that was made in the bare mount point', async () => {
    await unmount();
    const before = createNodeActivities({ node: HOST });
    await before.reserveDirectory(request(pool.path, 9));
    await assertAllRefused(/has another \.dvflow than the one that it had/);
    assert.ok(existsSync(join(pool.path, 'pvc-claim-9')));
  });

  it('is known after the first look where an earlier release filled it, with one identity for all processes', async () => {
    await node.removeDirectory({ directory });
    await rm(pool.path, { recursive: true });
    await rm(memory, { recursive: true });
    const earlier = createNodeActivities({ node: HOST });
    directory = await earlier.reserveDirectory(request(pool.path, 1));
    const others = [1, 2, 3].map(() => createNodeActivities({ node: HOST, stateDirectory }));
    await Promise.all(others.map((one) => one.observePool({ pool: ref(), foreignBytes: 0 })));
    await unmount();
    await mkdir(pool.path);
    await assertAllRefused(/has no \.dvflow any more/);
  });

  it('is looked at beside who holds its lock where it cannot be remembered', async () => {
    // nothing can be made in there
    const context = { node: HOST, memory: memoryIn('/proc/dvflow') };
    await using opened = await openPool(pool.path, context);
    let release = (): void => undefined;
    const held = withPoolLock(opened, () => new Promise<void>((resolve) => (release = resolve)));
    const { promisedBytes } = await observePool(ref(), { ...context, foreignBytes: 0 });
    assert.equal(promisedBytes, SIZE);
    release();
    await held;
  });

  it('is not known for books that never held a volume', async () => {
    await node.removeDirectory({ directory });
    await rm(memory, { recursive: true });
    await node.observePool({ pool: ref(), foreignBytes: 0 });
    assert.ok(!existsSync(memory));
  });

  it('is a new one after an operator has removed what is remembered, as the message says', async () => {
    await unmount();
    await mkdir(pool.path);
    const refused = await node.observePool({ pool: ref(), foreignBytes: 0 }).catch((error: unknown) => error);
    const command = / run on that node: (rm \S+\.json && mkdir -p \S+)$/.exec(
      (refused as Error).message,
    )?.[1];
    execFileSync('sh', ['-c', command ?? 'false']);
    // a released volume of before is gone, and nobody has to make a new one first
    await node.removeVolumeData({ volume: volume() });
    await node.reserveDirectory(request(pool.path, 2));
    assert.ok(existsSync(join(pool.path, 'pvc-claim-2')));
  });

  it('is known to processes that make its first volumes at once', async function () {
    this.timeout(60_000);
    const fresh = join(pool.base, 'fresh');
    const calls = [1, 2].map((n) =>
      inProcess({ call: 'reserve', inputs: [request(fresh, n)], stateDirectory }),
    );
    await Promise.all(calls);
    assert.equal(
      (await node.observePool({ pool: { ...ref(), path: fresh }, foreignBytes: 0 })).promisedBytes,
      2 * SIZE,
    );
  });

  it('that is gone is unusable in the figures', async () => {
    await unmount();
    await mkdir(pool.path);
    const recorded = new Map<string, number>();
    const metrics: Metrics = { record: (name, value) => void recorded.set(name, value) };
    const figures = poolMetrics(metrics, { node: HOST, memory });
    figures.begin('observePool', [{ pool: ref() }]);
    await figures.refresh();
    figures.stop();
    assert.equal(recorded.get('dvflow_pool_usable'), 0);
  });
});

describe('a pool that has never held a volume', () => {
  it('is looked at without books being made', async () => {
    const pool = await makePool();
    try {
      await mkdir(pool.path);
      const node = createNodeActivities({ node: HOST, stateDirectory: join(pool.base, 'state') });
      const ref = { path: pool.path, useNamingPrefix: false };
      const { roomBytes, promisedBytes } = await node.observePool({ pool: ref, foreignBytes: 0 });
      assert.ok(roomBytes > 0);
      assert.equal(promisedBytes, 0);
      await node.examineNode({ pools: [ref] });
      assert.deepEqual(await readdir(pool.path), []);
    } finally {
      await pool.remove();
    }
  });
});
