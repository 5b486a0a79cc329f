import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EMPTY_RECORD } from '../../activities/image/resume-record.js';
import { openTransferTarget } from '../../activities/image/transfer-target.js';
import { createNodeActivities } from '../../activities/node/index.js';
import { failureTypeOf } from '../../activities/failures.js';
import type { ReservedDirectory } from '../../activities/types.js';
import { openPaths } from '../support/open-files.js';
import { makePool, request, treeOf, writeDisk } from './support.js';

const activities = createNodeActivities({ node: 'node-1' });

describe('openTransferTarget', () => {
  let pool: Awaited<ReturnType<typeof makePool>>;
  beforeEach(async () => {
    pool = await makePool();
  });
  afterEach(() => pool.remove());

  const refusal = async (target: ReservedDirectory): Promise<void> => {
    const error = await openTransferTarget(target).catch((failure: unknown) => failure);
    assert.equal(failureTypeOf(error), 'ResourceExists');
    assert.equal(
      (error as Error).message,
      `directory ${pool.path}/${target.directory} on node node-1 is published or not this DataVolume's`,
    );
  };

  it('makes the disk of a directory that is reserved for it', async () => {
    const reserved = await activities.reserveDirectory(request(pool.path, 1));
    await using target = await openTransferTarget(reserved);
    assert.equal((await target.file!.stat()).size, 0);
    assert.ok((await treeOf(pool.path)).includes('pvc-claim-1/disk.img'));
  });

  it('counts a record that is none, whatever its file holds, as none', async () => {
    const reserved = await activities.reserveDirectory(request(pool.path, 1));
    for (const text of [
      '',
      'null',
      '[]',
      '{"version":1,"fence":1}',
      '{"version":1,"fence":1e300,"barren":0}',
    ]) {
      await writeFile(join(pool.path, '.dvflow/dv-1/record.json'), text);
      await using target = await openTransferTarget(reserved);
      assert.deepEqual(await target.readRecord(), EMPTY_RECORD, text);
    }
  });

  it('keeps nothing open of a disk that it cannot give to its owner', async () => {
    const reserved = await activities.reserveDirectory(request(pool.path, 1));
    const opened = () => openPaths().filter((path) => path.startsWith(pool.path)).length;
    // no system call takes it
    const owner = { uid: -2, gid: 0 };
    await assert.rejects(openTransferTarget(reserved, { owner }));
    assert.equal(opened(), 0);
  });

  it('touches nothing of a published disk', async () => {
    const reserved = await activities.reserveDirectory(request(pool.path, 1));
    const disk = await writeDisk(reserved, { size: 4096, data: 4096 });
    await activities.publishDirectory({ directory: reserved });
    const before = await treeOf(pool.path);
    await refusal(reserved);
    assert.deepEqual(await treeOf(pool.path), before);
    assert.deepEqual(await readFile(disk), Buffer.alloc(4096, 1));
  });

  it('touches nothing of a published disk while the same DataVolume fills another', async () => {
    const published = await activities.reserveDirectory(request(pool.path, 1));
    const disk = await writeDisk(published, { size: 4096, data: 4096 });
    await activities.publishDirectory({ directory: published });
    const claim = { namespace: 'team-a', name: 'vm1', uid: 'claim-9' };
    await activities.reserveDirectory(request(pool.path, 1, { claim }));
    await refusal(published);
    assert.deepEqual(await readFile(disk), Buffer.alloc(4096, 1));
  });

  it("believes no marker that names another DataVolume's directory", async () => {
    const reserved = await activities.reserveDirectory(request(pool.path, 1));
    const disk = await writeDisk(reserved, { size: 4096, data: 4096 });
    const path = join(pool.path, '.dvflow/dv-1/unpublished.json');
    const marker = JSON.parse(await readFile(path, 'utf8')) as object;
    await writeFile(path, JSON.stringify({ ...marker, dataVolume: request(pool.path, 2).dataVolume }));
    await refusal(reserved);
    assert.deepEqual(await readFile(disk), Buffer.alloc(4096, 1));
  });
});
