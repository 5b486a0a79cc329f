import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import { createNodeActivities } from '../../activities/node/index.js';
import type { UnpublishedItem } from '../../activities/types.js';
import { HOST, makePool, request } from './support.js';

describe('what a node tells the sweeper', () => {
  let pool: Awaited<ReturnType<typeof makePool>>;
  let stateDirectory: string;
  let node: ReturnType<typeof createNodeActivities>;
  let said: string[];
  beforeEach(async () => {
    pool = await makePool();
    stateDirectory = join(pool.base, 'state');
    node = createNodeActivities({ node: HOST, stateDirectory });
    said = [];
  });
  afterEach(() => pool.remove());

  async function list(...paths: readonly string[]): Promise<readonly UnpublishedItem[]> {
    const logger = new DefaultLogger('WARN', ({ message, meta }) => {
      const { pool: where, records, marker, name } = meta as Record<string, string | undefined>;
      said.push([message, where ?? records, marker ?? name].filter(Boolean).join(' '));
    });
    const pools = paths.map((path) => ({ path, useNamingPrefix: false }));
    return await new MockActivityEnvironment({}, { logger }).run(() =>
      node.listUnpublishedDirectories({ pools }),
    );
  }
  const uids = (items: readonly UnpublishedItem[]) => items.map(({ dataVolume }) => dataVolume.uid).sort();

  /** A pool whose books are no directory: nothing can be opened there. */
  async function makeBroken(name: string): Promise<string> {
    const path = join(pool.base, name);
    await mkdir(path);
    await writeFile(join(path, '.dvflow'), '');
    return path;
  }

  it('is of all pools but what cannot be opened, which is said in the log', async () => {
    await node.reserveDirectory(request(pool.path, 1));
    await mkdir(stateDirectory, { recursive: true });
    await writeFile(join(stateDirectory, 'block'), 'no directory');
    const broken = await makeBroken('broken');
    assert.deepEqual(uids(await list(broken, pool.path)), ['dv-1']);
    assert.deepEqual(said.sort(), [`cannot be swept ${broken}`, `cannot be swept ${stateDirectory}`]);
  });

  it('is all but what carries a marker that cannot be read', async () => {
    for (const n of [1, 2, 3]) await node.reserveDirectory(request(pool.path, n));
    await writeFile(join(pool.path, '.dvflow/dv-2/unpublished.json'), '{"dataVolume":');
    assert.deepEqual(uids(await list(pool.path)), ['dv-1', 'dv-3']);
    assert.deepEqual(said, [`marker cannot be read ${pool.path} dv-2`]);
  });

  it('is every block volume but one whose file cannot be looked at, also beside a broken pool', async () => {
    await node.removeDirectory({ directory: await node.reserveDirectory(request(pool.path, 1)) });
    await mkdir(join(stateDirectory, 'block'), { recursive: true });
    for (const name of ['odd', 'unused']) {
      const makers = [{ workflowId: 'w', runId: 'r' }];
      const record = { name, pool: pool.path, bytes: 4096, complete: true, createdAt: '2026-01-01', makers };
      await writeFile(join(stateDirectory, 'block', `${name}.json`), JSON.stringify(record));
      await mkdir(join(pool.path, `block-${name}`));
    }
    await mkdir(join(pool.path, 'block-odd/disk.img'));
    await writeFile(join(pool.path, 'block-unused/disk.img'), '');
    await truncate(join(pool.path, 'block-unused/disk.img'), 4096);
    const broken = await makeBroken('broken');
    assert.deepEqual(
      (await list(broken)).map(({ kind, name }) => [kind, name]),
      [['BlockVolume', 'unused']],
    );
    assert.deepEqual(said.sort(), [
      `block volume cannot be looked at ${pool.path} odd`,
      `cannot be swept ${broken}`,
    ]);
  });

  it('is what it knows of a transfer into a static volume, until that is taken or prepared again', async () => {
    const path = join(pool.base, 'static');
    await mkdir(path);
    const dataVolume = { namespace: 'team-a', name: 'vm1', uid: 'dv-9' };
    const claim = { namespace: 'team-a', name: 'vm1', uid: 'claim-9' };
    const volume = { node: HOST, hostname: HOST, dataVolume, volume: 'pv9', volumeUid: 'pv-9', path };
    const reserved = {
      ...volume,
      storageClass: 'local',
      volumeMode: 'Filesystem',
      capacityBytes: 1,
    } as const;
    const prepare = async (workflowId: string): Promise<void> => {
      const environment = new MockActivityEnvironment({ workflowExecution: { workflowId, runId: 'r' } });
      await environment.run(() =>
        node.prepareVolume({ volume: reserved, claim, requestBytes: 1, archive: false }),
      );
    };
    await prepare('w/first');
    await mkdir(join(stateDirectory, 'transfers/unmarked'));
    await mkdir(join(stateDirectory, 'transfers/odd'));
    await writeFile(join(stateDirectory, 'transfers/odd/reserved.json'), '{"volume":');
    const [first, ...others] = await list(pool.path);
    assert.deepEqual(others, []);
    const { createdAt, ...rest } = first!;
    assert.deepEqual(rest, {
      kind: 'TransferState',
      where: HOST,
      name: 'dv-9',
      objectUid: 'pv-9',
      dataVolume,
      workflowId: 'w/first',
    });
    assert.ok(Math.abs(Date.parse(createdAt) - Date.now()) < 60_000);
    assert.deepEqual(said, [`marker cannot be read ${stateDirectory}/transfers odd`]);
    await writeFile(join(path, 'disk.img'), 'of a user');
    await prepare('w/second');
    await node.removeUnpublishedDirectory({ item: first! });
    const [second] = await list(pool.path);
    assert.equal(second?.workflowId, 'w/second');
    for (const _ of [1, 2]) await node.removeUnpublishedDirectory({ item: second });
    assert.deepEqual(await list(pool.path), []);
    assert.equal(await readFile(join(path, 'disk.img'), 'utf8'), 'of a user');
  });

  it('is no directory of another node that shares the pool, which is not removed by it either', async () => {
    await node.reserveDirectory(request(pool.path, 1));
    const other = createNodeActivities({ node: 'host-2', stateDirectory: join(pool.base, 'state-2') });
    const pools = [{ path: pool.path, useNamingPrefix: false }];
    assert.deepEqual(await other.listUnpublishedDirectories({ pools }), []);
    const [item] = await list(pool.path);
    await other.removeUnpublishedDirectory({ item: item! });
    assert.deepEqual(uids(await list(pool.path)), ['dv-1']);
    // a run that goes on there takes it with it
    await other.reserveDirectory(request(pool.path, 1));
    assert.deepEqual(await list(pool.path), []);
    assert.deepEqual(uids(await other.listUnpublishedDirectories({ pools })), ['dv-1']);
    // an earlier release named no node
    const path = join(pool.path, '.dvflow/dv-1/unpublished.json');
    const marker = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
    await writeFile(path, JSON.stringify({ ...marker, node: undefined }));
    const [old] = await list(pool.path);
    await node.removeUnpublishedDirectory({ item: old! });
    assert.deepEqual(await readdir(pool.path), ['.dvflow']);
  });

  it('is a failure where nothing can be listed at all', async () => {
    const broken = await Promise.all(['one', 'two'].map(makeBroken));
    await assert.rejects(list(...broken), /pool .*\/(one|two) on node host-1 cannot be used/);
  });
});
