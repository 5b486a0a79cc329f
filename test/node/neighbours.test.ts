import assert from 'node:assert/strict';
import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createNodeActivities } from '../../activities/node/index.js';
import type { PoolFacts } from '../../activities/types.js';
import { HOST, makePool, request, tryMount, writeDisk } from './support.js';

const MIB = 1 << 20;

describe('two pools on one file system', () => {
  let base: Awaited<ReturnType<typeof makePool>>;
  let mounted: Disposable | undefined;
  let node: ReturnType<typeof createNodeActivities>;
  let one: string;
  let two: string;
  beforeEach(async function () {
    base = await makePool();
    await mkdir(base.path);
    mounted = tryMount(base.path, ['-t', 'tmpfs', '-o', 'size=64m', 'shared']);
    if (!mounted) return this.skip();
    node = createNodeActivities({ node: HOST, stateDirectory: join(base.base, 'state') });
    [one, two] = [join(base.path, 'one'), join(base.path, 'two')];
  });
  afterEach(async () => {
    mounted?.[Symbol.dispose]();
    await base.remove();
  });

  const observe = async (path: string): Promise<PoolFacts> =>
    await node.observePool({ pool: { path, useNamingPrefix: false }, foreignBytes: 0 });
  const roomOf = async (path: string): Promise<number> => Math.round((await observe(path)).roomBytes / MIB);

  it('promise its room once', async () => {
    const requestBytes = 40 * MIB;
    const first = await node.reserveDirectory(request(one, 1, { requestBytes }));
    assert.deepEqual([await roomOf(one), await roomOf(two)], [24, 24]);
    assert.equal((await observe(two)).promisedBytes, 0, 'in its own books');
    const { refused } = await node.reserveDirectory(request(two, 2, { requestBytes }));
    assert.equal(Math.round((refused?.roomBytes ?? 0) / MIB), 24);
    const second = await node.reserveDirectory(request(two, 2, { requestBytes: 16 * MIB }));
    assert.equal(second.refused, undefined);
    assert.deepEqual([await roomOf(one), await roomOf(two)], [8, 8]);
    const { pools } = await node.examineNode({ pools: [{ path: two, useNamingPrefix: false }] });
    assert.equal(Math.round((pools[0]?.roomBytes ?? 0) / MIB), 8);
    // what is used is no longer available, and counts once
    await writeDisk(first, { size: 32 * MIB, data: 32 * MIB });
    assert.deepEqual([await roomOf(one), await roomOf(two)], [8, 8]);
    await node.removeDirectory({ directory: first });
    assert.deepEqual([await roomOf(one), await roomOf(two)], [48, 48]);
  });

  it('are one pool where one is a link to the other', async () => {
    await node.reserveDirectory(request(one, 1, { requestBytes: 40 * MIB }));
    await symlink(one, two);
    await node.reserveDirectory(request(two, 2, { requestBytes: 8 * MIB }));
    assert.deepEqual([await roomOf(one), await roomOf(two)], [16, 16]);
  });

  it('are told from those on another file system where a path leads through a link', async () => {
    const second = join(base.base, 'second');
    await mkdir(second);
    using other = tryMount(second, ['-t', 'tmpfs', '-o', 'size=64m', 'second']);
    assert.ok(other);
    await symlink(base.path, join(second, 'link'));
    await node.reserveDirectory(request(join(second, 'link/one'), 1, { requestBytes: 40 * MIB }));
    assert.deepEqual([await roomOf(two), await roomOf(join(second, 'link/three'))], [24, 24]);
    assert.equal(await roomOf(join(second, 'three')), 64);
  });

  it('are looked at for what they use, also one that nobody asks for any more', async () => {
    const first = await node.reserveDirectory(request(one, 1, { requestBytes: 40 * MIB }));
    await writeFile(join(one, first.directory, 'of-an-archive'), Buffer.alloc(30 * MIB));
    await node.publishDirectory({ directory: first });
    assert.equal(await roomOf(two), 24);
  });

  it('leave the room that one promises several times over to the others', async () => {
    const pool = { path: one, useNamingPrefix: false, overcommit: 4 };
    await node.reserveDirectory(request(one, 1, { pool, requestBytes: 160 * MIB }));
    assert.equal(await roomOf(two), 24);
    const second = request(two, 2, { requestBytes: 40 * MIB });
    assert.equal(Math.round(((await node.reserveDirectory(second)).refused?.roomBytes ?? 0) / MIB), 24);
    // as an administrator changes it, from the next look on
    await node.observePool({ pool: { ...pool, overcommit: 8 }, foreignBytes: 0 });
    assert.equal(await roomOf(two), 44);
    // a look that does not know it changes nothing
    await roomOf(one);
    assert.equal(await roomOf(two), 44);
  });

  it('count what can be read of the promises of one that is damaged', async () => {
    await node.reserveDirectory(request(one, 1, { requestBytes: 40 * MIB }));
    await writeFile(join(one, '.dvflow/promises/broken'), '');
    assert.equal(await roomOf(two), 24);
    const { refused } = await node.reserveDirectory(request(two, 2, { requestBytes: 60 * MIB }));
    assert.equal(Math.round((refused?.roomBytes ?? 0) / MIB), 24);
  });

  it('do not count one that is not there', async () => {
    await node.reserveDirectory(request(one, 1, { requestBytes: 40 * MIB }));
    await rename(one, `${one}.away`);
    assert.equal(await roomOf(two), 64);
    await rm(`${one}.away`, { recursive: true });
  });
});
