import assert from 'node:assert/strict';
import {
  chmod,
  chown,
  link,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { createNodeActivities } from '../../activities/node/index.js';
import { nameAside } from '../../activities/node/remove.js';
import { failureTypeOf } from '../../activities/failures.js';
import type { ReleasedVolume, ReservedDirectory } from '../../activities/types.js';
import { itIf } from '../support/breadth.js';
import {
  EMPTY,
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

describe('removal on a node', () => {
  let pool: Awaited<ReturnType<typeof makePool>>;
  beforeEach(async () => {
    pool = await makePool();
  });
  afterEach(() => pool.remove());

  const reserve = async (n = 1): Promise<ReservedDirectory> =>
    await activities.reserveDirectory(request(pool.path, n));
  const released = (directory: string): ReleasedVolume => ({
    name: 'pvc-x',
    uid: 'pv-uid',
    node,
    path: join(pool.path, directory),
    pool: { path: pool.path, useNamingPrefix: false },
  });
  const typeOf = async (work: Promise<unknown>): Promise<unknown> =>
    failureTypeOf(await work.then(() => 'no failure').catch((error: unknown) => error));

  it('takes an unpublished directory with everything, twice', async () => {
    const directory = await reserve();
    await writeDisk(directory, { size: MIB, data: 4096 });
    await writeFile(join(pool.path, '.dvflow/dv-1/record.json'), '{}');
    await activities.removeDirectory({ directory });
    await activities.removeDirectory({ directory });
    assert.deepEqual(await treeOf(pool.path), EMPTY);
  });

  it('succeeds where neither pool nor directory exists, and makes no pool', async () => {
    const directory = await reserve();
    await rm(pool.path, { recursive: true });
    await activities.removeDirectory({ directory });
    assert.deepEqual(await activities.listUnpublishedDirectories({ pools: [released('x').pool] }), []);
    await assert.rejects(treeOf(pool.path), { code: 'ENOENT' });
  });

  it('refuses a published directory; its promise stays', async () => {
    const directory = await reserve();
    await writeDisk(directory, { size: MIB });
    await activities.publishDirectory({ directory });
    await activities.publishDirectory({ directory });
    assert.equal(await typeOf(activities.removeDirectory({ directory })), 'ResourceExists');
    assert.deepEqual(await treeOf(pool.path), [
      ...EMPTY,
      '.dvflow/promises/dv-1',
      'pvc-claim-1',
      'pvc-claim-1/disk.img',
    ]);
  });

  it('is finished by the next call when it is killed half-way', async function () {
    this.timeout(60_000);
    for (const killAfterMs of [1, 3, 6, 12, 25]) {
      const directory = await reserve();
      await mkdir(join(pool.path, 'pvc-claim-1/deep/er'), { recursive: true });
      const many = Array.from({ length: 300 }, (_, n) => join(pool.path, 'pvc-claim-1/deep/er', `f${n}`));
      await Promise.all(many.map((path) => writeFile(path, 'x')));
      await inProcess({ call: 'remove', inputs: [directory] }, { killAfterMs });
      await activities.removeDirectory({ directory });
      assert.deepEqual(await treeOf(pool.path), EMPTY);
    }
  });

  /** A directory that takes a while to remove. */
  async function reserveLarge(): Promise<ReservedDirectory> {
    const directory = await reserve();
    const deep = join(pool.path, directory.directory, 'deep');
    await mkdir(deep);
    for (let n = 0; n < 10_000; n += 500)
      await Promise.all(Array.from({ length: 500 }, (_, m) => writeFile(join(deep, `f${n + m}`), '')));
    await writeFile(join(pool.path, '.dvflow/dv-1/record.json'), '{"fence":1}');
    return directory;
  }
  const isAside = async (): Promise<boolean> =>
    (await readdir(join(pool.path, '.dvflow'))).some((name) => name.startsWith('.removing-'));

  /** Returns once a removal has begun. */
  async function setAside(): Promise<void> {
    for (const end = Date.now() + 60_000; !(await isAside());) {
      assert.ok(Date.now() < end, 'no removal has begun');
      await pause(5);
    }
  }

  const removals = {
    'a reservation is undone': async (directory: ReservedDirectory) =>
      await activities.removeDirectory({ directory }),
    'the sweeper removes': async () => {
      const [item] = await activities.listUnpublishedDirectories({ pools: [released('x').pool] });
      await activities.removeUnpublishedDirectory({ item: item! });
    },
    'a new claim of the DataVolume is reserved': async (directory: ReservedDirectory) => {
      const claim = { namespace: 'team-a', name: 'vm1', uid: 'claim-9' };
      const made = await activities.reserveDirectory(request(pool.path, 1, { claim }));
      assert.ok(!(await treeOf(pool.path)).includes(directory.directory));
      await activities.removeDirectory({ directory: made });
    },
  };
  for (const [index, [name, remove]] of Object.entries(removals).entries()) {
    itIf(index === 0)(`lets others reserve while millions of files go, when ${name}`, async function () {
      this.timeout(180_000);
      const directory = await reserveLarge();
      const order: string[] = [];
      const removing = remove(directory).then(() => order.push('removed'));
      await setAside();
      const other = await reserve(2);
      order.push('reserved');
      await removing;
      assert.deepEqual(order, ['reserved', 'removed']);
      await activities.removeDirectory({ directory: other });
      assert.deepEqual(await treeOf(pool.path), EMPTY);
    });
  }

  it('keeps the promise until the bytes are gone, and what a new run has reserved meanwhile', async function () {
    this.timeout(180_000);
    const directory = await reserveLarge();
    const removing = activities.removeDirectory({ directory });
    await setAside();
    assert.ok((await treeOf(pool.path)).includes('.dvflow/promises/dv-1'));
    await inRun('run-2', async () => await activities.reserveDirectory(request(pool.path, 1)));
    await removing;
    assert.deepEqual(await treeOf(pool.path), [
      '.dvflow',
      '.dvflow/dv-1',
      '.dvflow/dv-1/unpublished.json',
      '.dvflow/promises',
      '.dvflow/promises/dv-1',
      'pvc-claim-1',
    ]);
  });

  it('is finished by the sweeper, or by who reserves anew, when it died before the data that it set aside was gone', async () => {
    const die = async (): Promise<ReservedDirectory> => {
      const directory = await reserve();
      await writeFile(join(pool.path, 'pvc-claim-1/disk.img'), 'x');
      await rename(join(pool.path, 'pvc-claim-1'), join(pool.path, '.dvflow', nameAside('pvc-claim-1')));
      return directory;
    };
    await die();
    const [item] = await activities.listUnpublishedDirectories({ pools: [released('x').pool] });
    await activities.removeUnpublishedDirectory({ item: item! });
    assert.deepEqual(await treeOf(pool.path), EMPTY);
    await activities.removeDirectory({ directory: await die() });
    assert.deepEqual(await treeOf(pool.path), EMPTY);
    await die();
    const again = await reserve();
    assert.equal(await isAside(), false);
    await activities.removeDirectory({ directory: again });
    assert.deepEqual(await treeOf(pool.path), EMPTY);
  });

  it('refuses a directory that something is mounted on, and keeps it', async function () {
    const directory = await reserve();
    using mount = tryMount(join(pool.path, 'pvc-claim-1'), ['-t', 'tmpfs', 'tmpfs']);
    if (!mount) this.skip();
    assert.equal(await typeOf(activities.removeDirectory({ directory })), 'ResourceExists');
    assert.ok((await treeOf(pool.path)).includes('.dvflow/dv-1/unpublished.json'));
  });

  it('finishes a removal of which only the private directory is left', async () => {
    const directory = await reserve();
    await rm(join(pool.path, 'pvc-claim-1'), { recursive: true });
    await rm(join(pool.path, '.dvflow/promises/dv-1'));
    await rm(join(pool.path, '.dvflow/dv-1/unpublished.json'));
    await activities.removeDirectory({ directory });
    assert.deepEqual(await treeOf(pool.path), EMPTY);
  });

  it('takes what an archive or a tenant may leave: closed directories, names that are no UTF-8', async () => {
    const uid = isRoot ? 65534 : undefined;
    await mkdir(pool.path);
    if (uid !== undefined) await chown(pool.path, uid, uid);
    const as = uid === undefined ? {} : { uid };
    const [directory] = await inProcess({ call: 'reserve', inputs: [request(pool.path, 1)] }, as);
    assert.ok(directory);
    const closed = join(pool.path, directory.directory, 'closed');
    await mkdir(join(closed, 'within'), { recursive: true });
    const name = Buffer.concat([Buffer.from(`${closed}/within/`), Buffer.from([0xff, 0xfe])]);
    await writeFile(name, 'x');
    if (uid !== undefined) for (const path of [name, `${closed}/within`, closed]) await chown(path, uid, uid);
    for (const path of [`${closed}/within`, closed]) await chmod(path, 0);
    await chmod(join(pool.path, directory.directory), 0o100);
    await inProcess({ call: 'remove', inputs: [directory] }, as);
    assert.deepEqual(await treeOf(pool.path), EMPTY);
  });

  it('leaves what symbolic links in a volume point to', async () => {
    const outside = join(pool.base, 'outside');
    await mkdir(outside);
    await writeFile(join(outside, 'precious'), 'kept');
    const directory = await reserve();
    const volume = join(pool.path, directory.directory);
    await symlink(outside, join(volume, 'directory'));
    await symlink(join(outside, 'precious'), join(volume, 'disk.img'));
    await link(join(outside, 'precious'), join(volume, 'hard'));
    await activities.removeDirectory({ directory });
    assert.equal(await readFile(join(outside, 'precious'), 'utf8'), 'kept');
    assert.deepEqual(await treeOf(pool.path), EMPTY);
  });

  it('takes a symbolic link in place of the directory for what it is', async () => {
    const outside = join(pool.base, 'outside');
    await mkdir(outside);
    await writeFile(join(outside, 'precious'), 'kept');
    const directory = await reserve();
    await rename(join(pool.path, 'pvc-claim-1'), join(pool.base, 'moved'));
    await symlink(outside, join(pool.path, 'pvc-claim-1'));
    await activities.removeDirectory({ directory });
    assert.equal(await readFile(join(outside, 'precious'), 'utf8'), 'kept');
    assert.deepEqual(await treeOf(pool.path), EMPTY);
  });

  it('removes for the sweeper only what the marker still says', async () => {
    await reserve();
    const [item] = await activities.listUnpublishedDirectories({ pools: [released('x').pool] });
    assert.ok(item);
    for (const changed of [
      { workflowId: 'other' },
      { createdAt: '2020-01-01T00:00:00.000Z' },
      { name: 'pvc-other' },
    ]) {
      await activities.removeUnpublishedDirectory({ item: { ...item, ...changed } });
      assert.ok((await treeOf(pool.path)).includes('pvc-claim-1'));
    }
    await reserve(2);
    const disk = await reserve(3);
    await activities.publishDirectory({ directory: disk });
    await activities.removeUnpublishedDirectory({ item });
    await activities.removeUnpublishedDirectory({ item });
    const left = (await treeOf(pool.path)).filter((name) => name.startsWith('pvc-'));
    assert.deepEqual(left, ['pvc-claim-2', 'pvc-claim-3']);
    // A published one is out of the sweeper's reach even if its item was listed before.
    await activities.removeUnpublishedDirectory({
      item: { ...item, name: 'pvc-claim-3', dataVolume: disk.dataVolume },
    });
    assert.ok((await treeOf(pool.path)).includes('pvc-claim-3'));
  });

  it('removes the data and the promise of a released volume, twice', async () => {
    const directory = await reserve();
    await writeDisk(directory, { size: MIB });
    await activities.publishDirectory({ directory });
    await activities.removeVolumeData({ volume: released('pvc-claim-1') });
    await activities.removeVolumeData({ volume: released('pvc-claim-1') });
    assert.deepEqual(await treeOf(pool.path), EMPTY);
  });

  it('reclaims nothing that is not directly under the pool', async () => {
    await reserve();
    const before = await treeOf(pool.path);
    const outside = join(pool.base, 'outside');
    await mkdir(outside);
    for (const path of ['../outside', 'pvc-claim-1/..', '.dvflow', '.dvflow/promises', '', '..', 'a/b']) {
      const volume = { ...released(''), path: `${pool.path}/${path}` };
      assert.equal(await typeOf(activities.removeVolumeData({ volume })), 'IncompatiblePVC', path);
    }
    const elsewhere = { ...released('pvc-claim-1'), node: 'node-2' };
    assert.equal(await typeOf(activities.removeVolumeData({ volume: elsewhere })), 'IncompatiblePVC');
    assert.deepEqual(await treeOf(pool.path), before);
    assert.deepEqual(await treeOf(outside), []);
  });

  it('waits for a pool that is not there before it calls data gone', async () => {
    assert.equal(
      await typeOf(activities.removeVolumeData({ volume: released('pvc-claim-1') })),
      'NodeUnavailable',
    );
  });

  it('does not call data gone in an empty mount point, and makes no books there', async () => {
    const directory = await reserve();
    await rm(pool.path, { recursive: true });
    await mkdir(pool.path);
    await activities.removeDirectory({ directory });
    for (let attempt = 1; attempt <= 2; attempt++) {
      const work = activities.removeVolumeData({ volume: released('pvc-claim-1') });
      assert.equal(await typeOf(work), 'NodeUnavailable');
    }
    assert.deepEqual(await treeOf(pool.path), []);
  });

  it('leaves the marker to the sweeper when it dies at the promise or the record', async function () {
    const removals = [
      (directory: ReservedDirectory) => activities.removeDirectory({ directory }),
      () => activities.removeVolumeData({ volume: released('pvc-claim-1') }),
    ];
    const stuck = ['promises/dv-1', 'dv-1/record.json'];
    for (const [name, remove] of stuck.flatMap((each) =>
      removals.map((removal) => [each, removal] as const),
    )) {
      const directory = await reserve();
      await writeDisk(directory, { size: MIB });
      {
        const path = join(pool.path, '.dvflow', name);
        // A file that something is mounted on cannot be unlinked.
        using mount = tryMount(path, ['--bind', path]);
        if (!mount) this.skip();
        await assert.rejects(remove(directory), { code: 'EBUSY' });
      }
      const tree = await treeOf(pool.path);
      assert.ok(tree.includes(`.dvflow/${name}`), tree.join());
      // what is undone loses its record first, else a new run would find that it is complete
      const isUntouched = name === 'dv-1/record.json' && remove === removals[0];
      assert.equal(tree.includes('pvc-claim-1'), isUntouched, tree.join());
      const [item] = await activities.listUnpublishedDirectories({ pools: [released('x').pool] });
      assert.ok(item);
      await activities.removeUnpublishedDirectory({ item });
      assert.deepEqual(await treeOf(pool.path), EMPTY);
    }
  });
});
