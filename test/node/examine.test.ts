import assert from 'node:assert/strict';
import { mkdir, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { examinePool } from '../../activities/node/examine.js';
import { createNodeActivities } from '../../activities/node/index.js';
import type { PoolReport } from '../../activities/types/operators.js';
import { makePool, request, treeOf, tryMount } from './support.js';

const node = 'node-1';
const activities = createNodeActivities({ node, version: '1.2.3' });
const MIB = 1 << 20;

describe('examineNode', () => {
  let pool: Awaited<ReturnType<typeof makePool>>;
  beforeEach(async () => {
    pool = await makePool();
  });
  afterEach(() => pool.remove());

  async function examine(path = pool.path): Promise<PoolReport> {
    const { pools } = await activities.examineNode({ pools: [{ path, useNamingPrefix: false }] });
    return pools[0]!;
  }

  it('tells the worker: its node, its versions, whether it is root', async () => {
    const asRoot = createNodeActivities({ node, version: '1.2.3', transferUser: { uid: 107, gid: 107 } });
    const nodeVersion = process.versions.node;
    assert.deepEqual(await asRoot.examineNode({ pools: [] }), {
      node,
      version: '1.2.3',
      nodeVersion,
      root: true,
      pools: [],
    });
    assert.equal((await activities.examineNode({ pools: [] })).root, false);
  });

  it('of a pool that is not there makes nothing', async () => {
    const report = await examine();
    assert.deepEqual(
      [report.state, report.message],
      ['absent', `there is no directory ${pool.path} on node ${node}`],
    );
    await assert.rejects(stat(pool.path), { code: 'ENOENT' });
  });

  it('of an empty directory tells the room, and leaves it empty', async () => {
    await mkdir(pool.path);
    const report = await examine();
    assert.deepEqual([report.state, report.promises, report.promisedBytes], ['usable', 0, 0]);
    assert.ok(report.roomBytes! > 0 && report.roomBytes! <= report.totalBytes!);
    assert.deepEqual(await treeOf(pool.path), []);
  });

  it('of a pool in use counts its promises', async () => {
    for (const n of [1, 2]) await activities.reserveDirectory(request(pool.path, n));
    const before = await treeOf(pool.path);
    const report = await examine();
    assert.deepEqual([report.state, report.promises, report.promisedBytes], ['usable', 2, 2 * MIB]);
    assert.deepEqual(await treeOf(pool.path), before);
  });

  it('of a pool whose books take long tells no figures, reads them once, and lets everybody else use it', async () => {
    await activities.reserveDirectory(request(pool.path, 1));
    let read = 0;
    let end = (): void => undefined;
    const books = new Promise<object>((resolve) => (end = () => resolve({ roomBytes: MIB, promises: 1 })));
    const readBooks = () => ((read += 1), books);
    const look = (withinMs: number) =>
      examinePool(
        { path: pool.path, useNamingPrefix: false },
        { node, foreignBytes: 1, withinMs, readBooks },
      );
    for (const _ of [1, 2]) {
      const { state, totalBytes, roomBytes, promises } = await look(100);
      assert.deepEqual([state, roomBytes, promises], ['usable', undefined, undefined]);
      assert.ok(totalBytes! > 0);
    }
    await activities.reserveDirectory(request(pool.path, 2));
    const waiting = look(10_000);
    setTimeout(end, 100);
    const { roomBytes, promises } = await waiting;
    assert.deepEqual([read, roomBytes, promises], [1, MIB - 1, 1]);
    assert.equal((await examine()).promises, 2);
  });

  it('of what is no pool tells why, and never throws', async () => {
    await writeFile(join(pool.base, 'file'), '');
    await symlink('nowhere', join(pool.base, 'link'));
    await activities.reserveDirectory(request(pool.path, 1));
    await writeFile(join(pool.path, '.dvflow/promises/dv-2'), '{"bytes":"many"}');
    const cases = [
      [join(pool.base, 'file'), 'unusable', /ENOTDIR/],
      [join(pool.base, 'link'), 'absent', /there is no directory/],
      ['relative', 'unusable', /not an absolute path below/],
      ['/', 'unusable', /not an absolute path below/],
      [pool.path, 'unusable', /promise .*dv-2 is not readable/],
    ] as const;
    for (const [path, state, message] of cases) {
      const report = await examine(path);
      assert.equal(report.state, state, path);
      assert.match(report.message ?? '', message);
    }
  });

  it("reads SELinux where the node's kernel shows it, which in a container is another place", async () => {
    await mkdir(pool.path);
    const selinuxfs = join(pool.base, 'selinuxfs');
    await mkdir(selinuxfs);
    await writeFile(join(selinuxfs, 'enforce'), '1');
    const told = createNodeActivities({ node, selinuxfs });
    const { pools } = await told.examineNode({ pools: [{ path: pool.path, useNamingPrefix: false }] });
    assert.deepEqual([pools[0]?.selinux?.mode, pools[0]?.selinux?.labelled], ['enforcing', false]);
    assert.match(
      pools[0]?.selinux?.message ?? '',
      /needs the type container_file_t \(SELinux is enforcing\)/,
    );
  });

  it('knows whether a pool has a file system of its own', async function () {
    await mkdir(pool.path);
    const alone = (await stat(pool.path)).dev !== (await stat('/')).dev;
    assert.equal((await examine()).sharedWithOs, !alone);
    using mounted = tryMount(pool.path, ['-t', 'tmpfs', 'tmpfs']);
    if (!mounted) return this.skip();
    assert.equal((await examine()).sharedWithOs, false);
  });
});
