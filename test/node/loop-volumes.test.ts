import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, lstatSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createNodeActivities } from '../../activities/node/index.js';
import { attachLoopVolumes, listLoopPools } from '../../activities/node/loop-volumes.js';
import type { LocalVolumePlan } from '../../activities/types/local-volumes.js';
import { refusal } from '../image/support/refused.js';
import { holdMount } from '../support/mounts.js';
import { HOST, inRun, isRoot, makePool, request, treeOf } from './support.js';

const MIB = 2 ** 20;

describe('block volumes over files', function () {
  this.timeout(60_000);
  let pool: Awaited<ReturnType<typeof makePool>>;
  let stateDirectory: string;
  let deviceDirectory: string;
  let node: ReturnType<typeof createNodeActivities>;

  before(function () {
    if (isRoot) return;
    this.test!.title += ' (loop devices need root)';
    this.skip();
  });
  beforeEach(async () => {
    pool = await makePool();
    stateDirectory = join(pool.base, 'state');
    deviceDirectory = join(pool.base, 'devices');
    node = createNodeActivities({ node: HOST, stateDirectory, deviceDirectory });
  });
  afterEach(async () => {
    for (const device of devicesBelow(pool.base)) execFileSync('losetup', ['--detach', device]);
    await pool.remove();
  });

  const plan = (more: Partial<LocalVolumePlan> = {}): LocalVolumePlan => ({
    name: 'block1',
    node: HOST,
    hostname: HOST,
    pool: pool.path,
    bytes: 64 * MIB,
    storageClass: 'local',
    preallocation: false,
    labels: {},
    foreignBytes: 0,
    exists: false,
    ...more,
  });
  const create = async (more: Partial<LocalVolumePlan> = {}, runId = 'run-1') =>
    await inRun(runId, () => node.createLoopVolume({ plan: plan(more) }));
  const file = () => join(pool.path, 'block-block1', 'disk.img');
  const sizeOf = (device: string) => Number(execFileSync('blockdev', ['--getsize64', device]));

  it('makes a sparse file of exactly the size, a device with direct I/O over it, and a link; twice is once', async () => {
    const made = await create();
    assert.deepEqual(made, { path: join(deviceDirectory, 'block1'), bytes: 64 * MIB, directIo: true });
    assert.deepEqual(await create(), made);
    assert.deepEqual([statSync(file()).size, statSync(file()).blocks], [64 * MIB, 0]);
    assert.equal(statSync(file()).mode & 0o777, 0o600);
    assert.equal(sizeOf(made.path), 64 * MIB);
    assert.equal(devicesBelow(pool.base).length, 1);
    assert.ok(lstatSync(made.path).isSymbolicLink());
  });

  it('allocates every block when that is asked for', async () => {
    await create({ preallocation: true });
    assert.ok(statSync(file()).blocks * 512 >= 64 * MIB);
  });

  it('promises its size, so that no directory is promised the same bytes, and is itself refused without room', async () => {
    const { roomBytes } = await node.observePool({
      pool: { path: pool.path, useNamingPrefix: false },
      foreignBytes: 0,
    });
    const bytes = Math.floor(roomBytes / 2 / 4096) * 4096;
    await create({ bytes });
    // others take and free room on this file system meanwhile, but not a quarter of all
    const more = Math.floor(bytes / 2 / 4096) * 4096 + bytes;
    const reserved = await node.reserveDirectory(request(pool.path, 1, { requestBytes: more }));
    assert.ok(reserved.refused && reserved.refused.roomBytes < more);
    const second = await create({ name: 'block2', bytes: more });
    assert.equal(second.refused?.requestBytes, more);
    assert.ok(!existsSync(join(pool.path, 'block-block2')));
  });

  it('comes back under the same path with the same bytes after the device was detached, as by a reboot', async () => {
    const made = await create();
    execFileSync('dd', ['if=/dev/urandom', `of=${made.path}`, 'bs=1M', 'count=4', 'oflag=direct'], {
      stdio: 'ignore',
    });
    const before = await readFile(file());
    execFileSync('losetup', ['--detach', readlinkSync(made.path)]);
    await rm(deviceDirectory, { recursive: true });
    // another device may have the number by now
    const other = join(pool.base, 'other');
    writeFileSync(other, Buffer.alloc(MIB, 7));
    execFileSync('losetup', ['--find', other]);
    const context = { node: HOST, stateDirectory, deviceDirectory };
    assert.deepEqual(await attachLoopVolumes(pool.path, context), []);
    assert.deepEqual(await attachLoopVolumes(pool.path, context), []);
    assert.equal(devicesBelow(pool.path).length, 1);
    assert.ok(before.equals(await readFile(made.path)), 'the device holds what it held');
  });

  it('says which cannot come back yet: its pool is not mounted', async () => {
    const made = await create();
    execFileSync('losetup', ['--detach', readlinkSync(made.path)]);
    execFileSync('mv', [pool.path, `${pool.path}.away`]);
    const context = { node: HOST, stateDirectory, deviceDirectory };
    const [failed, ...more] = await attachLoopVolumes(pool.path, context);
    assert.deepEqual([failed?.name, more], ['block1', []]);
    assert.match(String(failed?.error), /has no \.dvflow: is its file system mounted/);
    execFileSync('mv', [`${pool.path}.away`, pool.path]);
    assert.deepEqual(await attachLoopVolumes(pool.path, context), []);
    assert.equal(sizeOf(made.path), 64 * MIB);
  });

  it('comes back although what is remembered of another one cannot be read', async () => {
    const made = await create();
    execFileSync('losetup', ['--detach', readlinkSync(made.path)]);
    writeFileSync(join(stateDirectory, 'block', 'broken.json'), '{"name":');
    const context = { node: HOST, stateDirectory, deviceDirectory };
    const { pools, unreadable } = await listLoopPools(context);
    assert.deepEqual([pools, unreadable.map(({ name }) => name)], [[pool.path], ['broken.json']]);
    assert.deepEqual(await attachLoopVolumes(pool.path, context), []);
    assert.equal(sizeOf(made.path), 64 * MIB);
  });

  it('goes on where an attempt was killed, whatever it had made', async () => {
    await create();
    // as if it had died before it could say that all is made
    execFileSync('losetup', ['--detach', readlinkSync(join(deviceDirectory, 'block1'))]);
    const record = join(stateDirectory, 'block', 'block1.json');
    const { makers: _, ...rest } = JSON.parse(String(await readFile(record))) as { makers: unknown };
    writeFileSync(record, JSON.stringify({ ...rest, complete: false }));
    await rm(join(pool.path, 'block-block1'), { recursive: true });
    assert.equal((await create({}, 'run-2')).bytes, 64 * MIB);
  });

  it('is removed with device, link, file, promise and record; twice is success', async () => {
    await create();
    await node.removeLoopVolume({ name: 'block1', madeBy: 'another-run' });
    assert.ok(existsSync(file()), 'somebody else made it');
    assert.deepEqual(await node.removeLoopVolume({ name: 'block1' }), { found: true });
    assert.deepEqual(await node.removeLoopVolume({ name: 'block1' }), { found: false });
    assert.deepEqual(devicesBelow(pool.base), []);
    assert.deepEqual(await treeOf(pool.path), ['.dvflow', '.dvflow/promises']);
    assert.deepEqual(await treeOf(join(stateDirectory, 'block')), []);
    assert.deepEqual(await treeOf(deviceDirectory), []);
  });

  it('is removed by none of two runs that went on from it as long as the other one may have published it', async () => {
    await create({}, 'run-a');
    await create({}, 'run-b');
    // another StorageClass: `run-a` was faster with its PersistentVolume
    await node.removeLoopVolume({ name: 'block1', madeBy: 'run-b' });
    assert.ok(existsSync(file()), 'the file of run-a');
    assert.equal(sizeOf(join(deviceDirectory, 'block1')), 64 * MIB);
    // run-a is told so, comes again after run-b, and fails too
    await create({}, 'run-b');
    await node.removeLoopVolume({ name: 'block1', madeBy: 'run-a' });
    assert.ok(existsSync(file()), 'run-b goes on from it');
    await node.removeLoopVolume({ name: 'block1', madeBy: 'run-b' });
    assert.ok(!existsSync(file()), 'nobody is left');
  });

  it('is undone by an older worker’s run', async () => {
    await create();
    const record = join(stateDirectory, 'block', 'block1.json');
    const { makers: _, ...rest } = JSON.parse(String(await readFile(record))) as { makers: unknown };
    writeFileSync(record, JSON.stringify({ ...rest, runId: 'old-run' }));
    await create({}, 'run-2');
    await node.removeLoopVolume({ name: 'block1', madeBy: 'run-2' });
    assert.ok(existsSync(file()));
    await node.removeLoopVolume({ name: 'block1', madeBy: 'old-run' });
    assert.ok(!existsSync(file()));
  });

  for (const preallocation of [false, true]) {
    const kind = preallocation ? 'preallocated' : 'sparse';
    it(`is found with its disk under a PersistentVolume that is there, and undone by no run (${kind})`, async () => {
      const made = await create({ preallocation });
      execFileSync('dd', ['if=/dev/urandom', `of=${made.path}`, 'bs=1M', 'count=1', 'oflag=direct'], {
        stdio: 'ignore',
      });
      const before = await readFile(file());
      assert.deepEqual(await create({ preallocation, exists: true }, 'again'), made);
      await node.removeLoopVolume({ name: 'block1', madeBy: 'again' });
      assert.ok(before.equals(await readFile(file())));
    });
  }

  it('is found and removed where the worker lost what it remembered', async () => {
    const made = await create();
    execFileSync('losetup', ['--detach', readlinkSync(made.path)]);
    await rm(stateDirectory, { recursive: true });
    assert.deepEqual(await create({ exists: true }, 'again'), made);
    await rm(stateDirectory, { recursive: true });
    assert.deepEqual(await node.removeLoopVolume({ name: 'block1' }), { found: false });
    assert.deepEqual(await node.removeLoopVolume({ name: 'block1', pool: pool.path }), { found: true });
    assert.deepEqual(devicesBelow(pool.base), []);
    assert.deepEqual(await treeOf(pool.path), ['.dvflow', '.dvflow/promises']);
    assert.deepEqual(await node.removeLoopVolume({ name: 'block1', pool: pool.path }), { found: false });
  });

  it('is swept as long as it holds nothing, with the last run that made it', async () => {
    const pools = [{ path: pool.path, useNamingPrefix: false }];
    await create({}, 'run-a');
    await create({}, 'run-b');
    const items = await node.listUnpublishedDirectories({ pools });
    assert.deepEqual(
      items.map(({ kind, where, name, objectUid, workflowId }) => [kind, where, name, objectUid, workflowId]),
      ['run-a', 'run-b'].map((run) => ['BlockVolume', HOST, 'block1', run, 'workflow']),
    );
    await node.removeUnpublishedDirectory({ item: { ...items[0]!, createdAt: 'before' } });
    await node.removeUnpublishedDirectory({ item: items[0]! });
    assert.ok(existsSync(file()), 'run-b may still offer it');
    execFileSync(
      'dd',
      ['if=/dev/urandom', `of=${join(deviceDirectory, 'block1')}`, 'bs=1M', 'count=1', 'oflag=direct'],
      {
        stdio: 'ignore',
      },
    );
    assert.deepEqual(await node.listUnpublishedDirectories({ pools }), []);
    await node.removeUnpublishedDirectory({ item: items[1]! });
    assert.ok(existsSync(file()), 'somebody’s bytes');
    execFileSync('fallocate', ['--punch-hole', '--offset', '0', '--length', `${64 * MIB}`, file()]);
    await node.removeUnpublishedDirectory({ item: items[1]! });
    assert.deepEqual(await treeOf(pool.path), ['.dvflow', '.dvflow/promises']);
  });

  it('is not made anew under a PersistentVolume whose file is missing', async () => {
    const missing = refusal('NodeUnavailable', /disk\.img of volume block1 is missing on node host-1/, false);
    await assert.rejects(create({ exists: true }), missing);
    assert.ok(!existsSync(join(pool.path, 'block-block1')));
    assert.deepEqual(await treeOf(stateDirectory).catch(() => []), []);
  });

  it('is promised more than there is where the pool’s overcommit says so', async () => {
    const pools = { pool: { path: pool.path, useNamingPrefix: false }, foreignBytes: 0 };
    const { roomBytes } = await node.observePool(pools);
    const bytes = Math.ceil((roomBytes * 1.5) / 4096) * 4096;
    assert.equal((await create({ bytes })).refused?.requestBytes, bytes);
    assert.equal((await create({ bytes, overcommit: 2 })).refused, undefined);
  });

  it('is not removed while it is mounted, or a loop device of a pod is on it', async () => {
    const { path } = await create();
    const above = execFileSync('losetup', ['--find', '--show', path], { encoding: 'utf8' }).trim();
    const inUse = refusal('ResourceExists', /in use: loop device loop\d+ is on it/, true);
    await assert.rejects(node.removeLoopVolume({ name: 'block1' }), inUse);
    execFileSync('losetup', ['--detach', above]);
    execFileSync('mkfs.ext4', ['-q', path]);
    const mounted = join(pool.base, 'mounted');
    execFileSync('mkdir', [mounted]);
    {
      await using _ = await holdMount(path, mounted);
      const busy = refusal('ResourceExists', /in use: it is mounted/, true);
      await assert.rejects(node.removeLoopVolume({ name: 'block1' }), busy);
    }
    assert.ok(existsSync(file()));
    await node.removeLoopVolume({ name: 'block1' });
  });

  it('never takes what may be a disk for a new volume: used, of another size, or not ours', async () => {
    const { path } = await create();
    await assert.rejects(
      create({ bytes: 32 * MIB }, 'run-2'),
      refusal('ResourceExists', /earlier volume of 67108864 bytes/, true),
    );
    // never written to: there is no disk in it
    assert.equal((await create({}, 'run-2')).path, path);
    execFileSync('dd', ['if=/dev/urandom', `of=${path}`, 'bs=1M', 'count=1', 'oflag=direct'], {
      stdio: 'ignore',
    });
    const used = refusal(
      'ResourceExists',
      /may hold the disk .* dvflow local-volume delete block1 --node host-1/,
      true,
    );
    await assert.rejects(create({}, 'run-3'), used);
    execFileSync('mkdir', [join(pool.path, 'block-block2')]);
    await assert.rejects(
      create({ name: 'block2' }),
      refusal('ResourceExists', /is not a volume of dvflow/, true),
    );
  });
});

function devicesBelow(directory: string): readonly string[] {
  const listed = execFileSync('losetup', ['--list', '--noheadings', '--output', 'NAME,BACK-FILE'], {
    encoding: 'utf8',
  });
  return listed.split('\n').flatMap((line) => {
    const [device = '', file = ''] = line.trim().split(/\s+/);
    return file.startsWith(directory) ? [device] : [];
  });
}
