import assert from 'node:assert/strict';
import { link, mkdir, readFile, rename, rm, stat, statfs, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createNodeActivities } from '../../activities/node/index.js';
import { failureTypeOf } from '../../activities/failures.js';
import type { PoolFacts, UnpublishedItem } from '../../activities/types.js';
import { refusal } from '../image/support/refused.js';
import {
  EMPTY,
  HOST,
  inProcess,
  inRun,
  isRoot,
  makePool,
  request,
  treeOf,
  tryMount,
  writeDisk,
} from './support.js';

const node = 'node-1';
const activities = createNodeActivities({ node });
const MIB = 1 << 20;

/** Calls for a room of about `bytes`, by declaring the rest foreign. */
async function foreignFor(path: string, bytes: number): Promise<number> {
  await mkdir(path, { recursive: true });
  return (await freeBytes(path)) - bytes;
}

async function freeBytes(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}

/** Looks again, some times, where what is free changed by more than a few MiB meanwhile: other programs use the file system too. */
async function undisturbed<T>(path: string, look: () => Promise<T>): Promise<T> {
  for (let left = 40; ; left -= 1) {
    const before = await freeBytes(path);
    const found = await look();
    const drift = Math.abs((await freeBytes(path)) - before);
    if (drift < 16 * MIB || left === 1) return found;
    await sleep(250);
  }
}

const observe = async (path: string, foreignBytes = 0): Promise<PoolFacts> =>
  await activities.observePool({ pool: { path, useNamingPrefix: false }, foreignBytes });

describe('reserveDirectory', () => {
  let pool: Awaited<ReturnType<typeof makePool>>;
  beforeEach(async () => {
    pool = await makePool();
  });
  afterEach(() => pool.remove());

  it('makes the directory, its promise and its marker', async () => {
    const reserved = await activities.reserveDirectory(request(pool.path, 1));
    assert.deepEqual(reserved, {
      node,
      hostname: HOST,
      pool: pool.path,
      directory: 'pvc-claim-1',
      dataVolume: { namespace: 'team-a', name: 'vm1', uid: 'dv-1' },
      promisedBytes: MIB,
    });
    assert.equal((await stat(join(pool.path, 'pvc-claim-1'))).mode & 0o7777, 0o771);
    assert.deepEqual(await treeOf(pool.path), [
      '.dvflow',
      '.dvflow/dv-1',
      '.dvflow/dv-1/unpublished.json',
      '.dvflow/promises',
      '.dvflow/promises/dv-1',
      'pvc-claim-1',
    ]);
    const text = await readFile(join(pool.path, '.dvflow/dv-1/unpublished.json'), 'utf8');
    const marker = JSON.parse(text) as { dataVolume: { uid: string }; workflowId: string };
    assert.equal(marker.dataVolume.uid, 'dv-1');
    assert.equal(marker.workflowId, 'datavolume/team-a/vm1/dv-1');
    const [item] = await activities.listUnpublishedDirectories({ pools: [request(pool.path, 1).pool] });
    assert.equal(item?.name, 'pvc-claim-1');
    assert.equal(item?.where, node);
  });

  it('honours the naming prefix', async () => {
    const { directory } = await activities.reserveDirectory(
      request(pool.path, 1, { pool: { path: pool.path, useNamingPrefix: true } }),
    );
    assert.equal(directory, 'vm1-pvc-claim-1');
  });

  it('begins the directory of a claim with a long name by as much of it as a directory may have', async () => {
    const name = 'n'.repeat(253);
    const uid = '01234567-89ab-cdef-0123-456789abcdef';
    const { directory } = await activities.reserveDirectory(
      request(pool.path, 1, {
        claim: { namespace: 'team-a', name, uid },
        pool: { path: pool.path, useNamingPrefix: true },
      }),
    );
    assert.equal(directory, `${'n'.repeat(214)}-pvc-${uid}`);
    assert.equal(directory.length, 255);
    await stat(join(pool.path, directory));
  });

  it('promises as often as overcommit says what volumes may use, and nothing twice without it', async () => {
    const room = async (foreignBytes: number, overcommit?: number): Promise<number> => {
      const { roomBytes } = await activities.observePool({
        pool: { path: pool.path, useNamingPrefix: false, ...(overcommit ? { overcommit } : {}) },
        foreignBytes,
      });
      return roomBytes / MIB;
    };
    await mkdir(pool.path);
    const { foreignBytes, availableBytes, once, twice } = await undisturbed(pool.path, async () => {
      // all free bytes are foreign but for 8 GiB
      const foreign = await foreignFor(pool.path, 8192 * MIB);
      return {
        foreignBytes: foreign,
        availableBytes: (await observe(pool.path)).availableBytes,
        once: await room(foreign),
        twice: await room(foreign, 2),
      };
    });
    assert.ok(Math.abs(once - 8192) < 64, `${once}`);
    assert.ok(Math.abs(twice - once - availableBytes / MIB) < 128, `${twice}`);
    const bytes = 8192 * MIB;
    const pools = (overcommit: object) => ({ path: pool.path, useNamingPrefix: false, ...overcommit });
    // by more than others may free meanwhile
    const ask = { foreignBytes, requestBytes: bytes + 4096 * MIB };
    const { refused } = await activities.reserveDirectory(request(pool.path, 1, ask));
    assert.ok(refused);
    const granted = await activities.reserveDirectory(
      request(pool.path, 1, { ...ask, pool: pools({ overcommit: 2 }) }),
    );
    assert.equal(granted.promisedBytes, ask.requestBytes);
    const { promisedBytes } = await observe(pool.path);
    assert.equal(promisedBytes, ask.requestBytes);
    assert.equal(await room(foreignBytes), 0);
  });

  it('answers a repetition with what is there', async () => {
    const first = await activities.reserveDirectory(request(pool.path, 1));
    const before = await treeOf(pool.path);
    // No room any more: what is promised stays promised.
    const again = await activities.reserveDirectory(
      request(pool.path, 1, { foreignBytes: Number.MAX_SAFE_INTEGER }),
    );
    assert.deepEqual(again, first);
    assert.deepEqual(await treeOf(pool.path), before);
  });

  it('is room for whom it was made, and says that it is held', async () => {
    const foreignBytes = await foreignFor(pool.path, 8192 * MIB);
    const asked = request(pool.path, 1, { foreignBytes, requestBytes: 6144 * MIB });
    const { claim, dataVolume } = asked;
    const observeOf = async (of?: { claim: typeof claim; dataVolume: typeof dataVolume }) => {
      const { held, roomBytes } = await activities.observePool({
        pool: asked.pool,
        foreignBytes,
        ...(of ? { of } : {}),
      });
      return [held, Math.round(roomBytes / MIB / 1024)];
    };
    assert.deepEqual(await observeOf({ claim, dataVolume }), [undefined, 8]);
    const reserved = await activities.reserveDirectory(asked);
    assert.deepEqual(await observeOf({ claim, dataVolume }), [true, 8]);
    assert.deepEqual(await observeOf(), [undefined, 2]);
    assert.deepEqual(await observeOf(request(pool.path, 2)), [undefined, 2]);
    // another claim of the same DataVolume gets another directory
    assert.deepEqual(await observeOf({ claim: request(pool.path, 2).claim, dataVolume }), [undefined, 2]);
    await writeDisk(reserved, { size: 6144 * MIB });
    await activities.publishDirectory({ directory: reserved });
    assert.deepEqual(await observeOf({ claim, dataVolume }), [undefined, 2]);
  });

  it('refuses with both figures and makes nothing', async () => {
    const foreignBytes = Number.MAX_SAFE_INTEGER;
    const { refused } = await activities.reserveDirectory(request(pool.path, 1, { foreignBytes }));
    assert.deepEqual(refused, { roomBytes: 0, requestBytes: MIB });
    assert.deepEqual(await treeOf(pool.path), EMPTY);
  });

  /** MiB by which the room is smaller than what is free now, give or take a few. */
  const withheld = (foreignBytes: number): Promise<number> =>
    undisturbed(pool.path, async () => {
      const { roomBytes } = await observe(pool.path, foreignBytes);
      const free = 8192 * MIB - (foreignBytes - (await foreignFor(pool.path, 8192 * MIB)));
      return Math.round((free - roomBytes) / MIB);
    });
  const assertWithheld = async (foreignBytes: number, expected: number, when: string): Promise<void> => {
    const found = await withheld(foreignBytes);
    assert.ok(Math.abs(found - expected) < 32, `${found} MiB instead of ${expected} ${when}`);
  };

  it('counts of a promise what its disk does not occupy yet', async () => {
    const foreignBytes = await foreignFor(pool.path, 8192 * MIB);
    const reserved = await activities.reserveDirectory(
      request(pool.path, 1, { foreignBytes, requestBytes: 4096 * MIB }),
    );
    await assertWithheld(foreignBytes, 4096, 'of an empty volume');
    await writeDisk(reserved, { size: 4096 * MIB, data: 128 * MIB });
    await assertWithheld(foreignBytes, 4096 - 128, 'after 128 MiB of data');
  });

  it('counts whatever a volume holds, and nothing that is not its own', async () => {
    const foreignBytes = await foreignFor(pool.path, 8192 * MIB);
    const reserved = await activities.reserveDirectory(
      request(pool.path, 1, { foreignBytes, requestBytes: 4096 * MIB }),
    );
    const after = async (expected: number, when: string): Promise<void> => {
      // what a volume holds is looked at once in a second
      await sleep(1_500);
      await assertWithheld(foreignBytes, expected, when);
    };
    const disk = await writeDisk(reserved, { size: 4096 * MIB, data: 128 * MIB });
    const volume = join(pool.path, reserved.directory);
    await link(disk, join(pool.base, 'second'));
    await after(4096, 'with a second link elsewhere');
    await rm(join(pool.base, 'second'));
    await mkdir(join(volume, 'deep'));
    await rename(disk, join(volume, 'deep/users.data'));
    await after(4096 - 128, 'with a file of another name in a directory below');
    await symlink('deep/users.data', disk);
    await after(4096 - 128, 'with a symbolic link too');
    await rm(join(volume, 'deep'), { recursive: true });
    await assertWithheld(foreignBytes, 4096, 'at once when the file has gone');
    await rm(volume, { recursive: true });
    await writeFile(volume, '');
    await after(4096, 'with a file in place of the volume');
  });

  it('keeps no promise for a directory that somebody removed by hand', async () => {
    const foreignBytes = await foreignFor(pool.path, 8192 * MIB);
    const ask = { foreignBytes, requestBytes: 4096 * MIB };
    const reserved = await activities.reserveDirectory(request(pool.path, 1, ask));
    await rm(join(pool.path, reserved.directory), { recursive: true });
    await assertWithheld(foreignBytes, 4096, 'while it is to be made again');
    await activities.reserveDirectory(request(pool.path, 1, ask));
    await activities.publishDirectory({ directory: reserved });
    await rm(join(pool.path, reserved.directory), { recursive: true });
    await assertWithheld(foreignBytes, 0, 'when it was published');
    // more than there would be room for beside it, and less than others may leave of 8 GiB
    const second = await activities.reserveDirectory(
      request(pool.path, 2, { foreignBytes, requestBytes: 6144 * MIB }),
    );
    assert.equal(second.refused, undefined);
  });

  it('promises no byte twice to a hundred claims from several processes', async function () {
    this.timeout(60_000);
    const requestBytes = 8192 * MIB;
    // Room for ten, with half a request to spare for what else happens on this file system.
    const foreignBytes = await foreignFor(pool.path, 10.5 * requestBytes);
    const inputs = Array.from({ length: 100 }, (_, n) =>
      request(pool.path, n, { requestBytes, foreignBytes }),
    );
    const parts = [0, 1, 2, 3].map((part) => inputs.filter((_, n) => n % 4 === part));
    const results = (
      await Promise.all(parts.map((part) => inProcess({ call: 'reserve', inputs: part })))
    ).flat();
    assert.equal(results.length, 100);
    const made = results.filter(({ refused }) => !refused);
    assert.equal(made.length, 10);
    const directories = (await treeOf(pool.path)).filter((name) => /^pvc-claim-\d+$/.test(name));
    assert.deepEqual(directories, made.map(({ directory }) => directory).sort());
    for (const { refused } of results.filter(({ refused: no }) => no)) {
      assert.ok(refused && refused.roomBytes < requestBytes && refused.requestBytes === requestBytes);
    }
  });

  it('is finished by the next call when it is killed at any moment', async function () {
    this.timeout(60_000);
    for (const killAfterMs of [1, 4, 8, 15, 30]) {
      const n = killAfterMs;
      await inProcess({ call: 'reserve', inputs: [request(pool.path, n)] }, { killAfterMs });
      const reserved = await activities.reserveDirectory(request(pool.path, n));
      assert.equal(reserved.promisedBytes, MIB);
      assert.equal((await stat(join(pool.path, `pvc-claim-${n}`))).isDirectory(), true);
      await activities.removeDirectory({ directory: reserved });
    }
    assert.deepEqual(await treeOf(pool.path), EMPTY);
  });

  it('replaces what an ended run of the same DataVolume left for an older claim', async () => {
    const old = await activities.reserveDirectory(request(pool.path, 1));
    await writeDisk(old, { size: MIB });
    await writeFile(join(pool.path, '.dvflow/dv-1/record.json'), '{"fence":1}');
    const claim = { namespace: 'team-a', name: 'vm1', uid: 'claim-9' };
    await activities.reserveDirectory(request(pool.path, 1, { claim }));
    const tree = await treeOf(pool.path);
    assert.ok(tree.includes('pvc-claim-9') && !tree.includes('pvc-claim-1'), tree.join());
  });

  /** A whole disk under an older claim, whose marker stayed, and a new run of the same DataVolume. */
  const reserveAfterWhole = async () => {
    const old = await activities.reserveDirectory(request(pool.path, 1));
    await writeDisk(old, { size: MIB });
    const claim = { namespace: 'team-a', name: 'vm1', uid: 'claim-9' };
    const reserved = await activities.reserveDirectory(request(pool.path, 1, { claim }));
    const items = await activities.listUnpublishedDirectories({ pools: [request(pool.path, 1).pool] });
    assert.deepEqual(items.map(({ name, dataVolume }) => [name, dataVolume.uid]).sort(), [
      ['pvc-claim-1', 'dv-1'],
      ['pvc-claim-9', 'dv-1'],
    ]);
    return { old, reserved, item: items.find(({ name }) => name === 'pvc-claim-1')! };
  };

  it('leaves a whole disk whose marker stayed to the sweeper, who may find that it is published', async () => {
    const { old, reserved } = await reserveAfterWhole();
    await activities.publishDirectory({ directory: old });
    await activities.removeDirectory({ directory: reserved });
    assert.deepEqual(await treeOf(pool.path), [
      ...EMPTY,
      '.dvflow/promises/pvc-claim-1',
      'pvc-claim-1',
      'pvc-claim-1/disk.img',
    ]);
  });

  it('takes its mark although the new run has published its own disk meanwhile', async () => {
    const { old, reserved } = await reserveAfterWhole();
    await activities.publishDirectory({ directory: reserved });
    await activities.publishDirectory({ directory: old });
    assert.deepEqual(
      await activities.listUnpublishedDirectories({ pools: [request(pool.path, 1).pool] }),
      [],
    );
    await stat(join(pool.path, old.directory, 'disk.img'));
  });

  it('leaves it so that the sweeper can remove it too, and nothing of the new run', async () => {
    const { reserved, item } = await reserveAfterWhole();
    await activities.removeUnpublishedDirectory({ item });
    assert.deepEqual(await treeOf(pool.path), [
      '.dvflow',
      '.dvflow/dv-1',
      '.dvflow/dv-1/unpublished.json',
      '.dvflow/promises',
      '.dvflow/promises/dv-1',
      'pvc-claim-9',
    ]);
    await activities.removeDirectory({ directory: reserved });
    assert.deepEqual(await treeOf(pool.path), EMPTY);
  });

  it('leaves files that no transfer wrote to the sweeper too: a plain claim may have been published', async () => {
    const dataVolume = { namespace: 'team-a', name: 'vm1', uid: 'claim-1' };
    await activities.reserveDirectory(request(pool.path, 1, { dataVolume }));
    await writeFile(join(pool.path, 'pvc-claim-1', 'users.data'), 'data');
    await activities.reserveDirectory(
      request(pool.path, 1, { dataVolume, pool: { path: pool.path, useNamingPrefix: true } }),
    );
    assert.equal(String(await readFile(join(pool.path, 'pvc-claim-1', 'users.data'))), 'data');
  });

  it('keeps a published disk of the same DataVolume, and its promise', async () => {
    const old = await activities.reserveDirectory(request(pool.path, 1));
    await writeDisk(old, { size: MIB });
    await activities.publishDirectory({ directory: old });
    const claim = { namespace: 'team-a', name: 'vm1', uid: 'claim-9' };
    await activities.reserveDirectory(request(pool.path, 1, { claim }));
    assert.deepEqual(await treeOf(pool.path), [
      '.dvflow',
      '.dvflow/dv-1',
      '.dvflow/dv-1/unpublished.json',
      '.dvflow/promises',
      '.dvflow/promises/dv-1',
      '.dvflow/promises/pvc-claim-1',
      'pvc-claim-1',
      'pvc-claim-1/disk.img',
      'pvc-claim-9',
    ]);
  });

  it('marks the directory anew for each run of the workflow, out of reach of what was judged before', async () => {
    const reserve = async (runId: string): Promise<UnpublishedItem> => {
      await inRun(runId, async () => await activities.reserveDirectory(request(pool.path, 1)));
      const [item] = await activities.listUnpublishedDirectories({ pools: [request(pool.path, 1).pool] });
      assert.ok(item);
      return item;
    };
    const first = await reserve('run-1');
    assert.deepEqual(await reserve('run-1'), first);
    const second = await reserve('run-2');
    assert.notEqual(second.createdAt, first.createdAt);
    const before = await treeOf(pool.path);
    await activities.removeUnpublishedDirectory({ item: first });
    assert.deepEqual(await treeOf(pool.path), before);
    await activities.removeUnpublishedDirectory({ item: second });
    assert.deepEqual(await treeOf(pool.path), EMPTY);
  });

  it('never takes a directory that is published or not ours', async () => {
    const reserved = await activities.reserveDirectory(request(pool.path, 1));
    await activities.publishDirectory({ directory: reserved });
    await mkdir(join(pool.path, 'pvc-claim-2'));
    for (const n of [1, 2]) {
      const refused = await activities
        .reserveDirectory(request(pool.path, n))
        .catch((error: unknown) => error);
      assert.equal(failureTypeOf(refused), 'ResourceExists');
    }
    assert.deepEqual(
      await activities.listUnpublishedDirectories({ pools: [request(pool.path, 1).pool] }),
      [],
    );
  });

  it('follows no symbolic link and no name that leaves the pool', async () => {
    await activities.reserveDirectory(request(pool.path, 1));
    const outside = join(pool.base, 'outside');
    await mkdir(outside);
    await symlink(outside, join(pool.path, 'pvc-claim-2'));
    await assert.rejects(activities.reserveDirectory(request(pool.path, 2)));
    for (const uid of ['/../../outside', 'x/y']) {
      const claim = { namespace: 'team-a', name: 'vm3', uid };
      await assert.rejects(
        activities.reserveDirectory(request(pool.path, 3, { claim })),
        /one directory entry/,
      );
      const dataVolume = { namespace: 'team-a', name: 'vm4', uid };
      await assert.rejects(activities.reserveDirectory(request(pool.path, 4, { dataVolume })));
    }
    assert.equal((await stat(outside)).mode & 0o777, 0o755);
    assert.deepEqual(await treeOf(outside), []);
  });

  it('refuses books that are a symbolic link, and pools that are / or relative', async () => {
    await mkdir(pool.path);
    await mkdir(join(pool.base, 'elsewhere'));
    await symlink(join(pool.base, 'elsewhere'), join(pool.path, '.dvflow'));
    for (const path of [pool.path, '/', '//', 'relative']) {
      const error = await observe(path).catch((failure: unknown) => failure);
      assert.equal(failureTypeOf(error), 'NoSpace', path);
    }
    assert.deepEqual(await treeOf(join(pool.base, 'elsewhere')), []);
  });

  it('says why a pool cannot be made', async () => {
    await writeFile(pool.path, 'a file');
    await assert.rejects(observe(pool.path), /pool .* on node node-1 cannot be used: E/);
  });

  it('makes a pool, but not the directory that it is to lie in', async () => {
    await observe(pool.path);
    assert.deepEqual(await treeOf(pool.path), []);
    const foreignBytes = await foreignFor(pool.path, 0);
    await activities.reserveDirectory(request(pool.path, 1, { foreignBytes }));
    assert.deepEqual(await treeOf(pool.path), EMPTY);
    const path = join(pool.base, 'not-mounted/pool');
    for (const work of [() => observe(path), () => activities.reserveDirectory(request(path, 1))]) {
      const error = await work().catch((failure: unknown) => failure);
      assert.equal(failureTypeOf(error), 'NodeUnavailable');
      assert.equal(
        (error as Error).message,
        `pool ${path} is not a directory on node node-1: create it or mount it`,
      );
    }
    await assert.rejects(stat(join(pool.base, 'not-mounted')), { code: 'ENOENT' });
  });

  it("takes no pool in a container's own layer", async function () {
    const [lower, upper, work, layer] = ['lower', 'upper', 'work', 'layer'].map((name) =>
      join(pool.base, name),
    ) as [string, string, string, string];
    for (const path of [lower, upper, work, layer]) await mkdir(path);
    const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
    using mount = tryMount(layer, ['-t', 'overlay', 'overlay', '-o', options]);
    if (!mount) this.skip();
    await mkdir(join(layer, 'there'));
    for (const path of [join(layer, 'there'), join(layer, 'missing')]) {
      const error = await observe(path).catch((failure: unknown) => failure);
      assert.equal(failureTypeOf(error), 'NodeUnavailable');
      assert.match((error as Error).message, /is not a directory on node node-1.*: create it or mount it$/);
    }
    assert.deepEqual(await treeOf(layer), ['there']);
  });

  it('says that the file system is full where there was room by the books', async function () {
    await mkdir(pool.path);
    using mounted = tryMount(pool.path, ['-t', 'tmpfs', '-o', 'size=16m,nr_inodes=64', 'full']);
    if (!mounted) return this.skip();
    await activities.reserveDirectory(request(pool.path, 9));
    for (let n = 0, full = false; !full; n += 1)
      full = await writeFile(join(pool.path, `inode-${n}`), '').then(
        () => false,
        () => true,
      );
    await assert.rejects(
      activities.reserveDirectory(request(pool.path, 1)),
      refusal(
        'NoSpace',
        /could not make pvc-claim-1 in it: the file system of pool .* is full \(ENOSPC\)/,
        false,
      ),
    );
    await rm(join(pool.path, 'inode-0'));
    await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map((n) => rm(join(pool.path, `inode-${n}`))));
    assert.equal((await activities.reserveDirectory(request(pool.path, 1))).refused, undefined);
  });

  it('gives the directory to the transfer user where it is root', async function () {
    if (!isRoot) this.skip();
    const asRoot = createNodeActivities({ node, transferUser: { uid: 107, gid: 107 } });
    await asRoot.reserveDirectory(request(pool.path, 1));
    for (const name of ['pvc-claim-1', '.dvflow/dv-1']) {
      const { uid, gid } = await stat(join(pool.path, name));
      assert.deepEqual({ uid, gid }, { uid: 107, gid: 107 });
    }
    assert.equal((await stat(join(pool.path, '.dvflow'))).uid, 0);
  });

  it('works in a pool of its own user where it is not root', async function () {
    if (!isRoot) this.skip();
    this.timeout(20_000);
    await mkdir(pool.path);
    const { chown } = await import('node:fs/promises');
    await chown(pool.path, 65_534, 65_534);
    const [reserved] = await inProcess({ call: 'reserve', inputs: [request(pool.path, 1)] }, { uid: 65_534 });
    assert.equal(reserved?.directory, 'pvc-claim-1');
    assert.equal((await stat(join(pool.path, 'pvc-claim-1'))).uid, 65_534);
  });
});
