import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { lookAt } from '../../activities/node/answers.js';
import { createNodeActivities } from '../../activities/node/index.js';
import { openSourceTree } from '../../activities/node/source-volume.js';
import { refusal } from '../image/support/refused.js';
import { eventually } from '../live/world.js';
import { holdHungMount, type HeldMount } from '../support/mounts.js';
import { HOST, isRoot, makePool, request } from './support.js';

/** More than libuv has threads. */
const MANY = 12;

const hangs = refusal('NodeUnavailable', /the file system at .*\/hung on node host-1 does not answer/, false);

describe('a pool whose file system does not answer', function () {
  this.timeout(60_000);
  let healthy: Awaited<ReturnType<typeof makePool>>;
  let hung: HeldMount;
  let node: ReturnType<typeof createNodeActivities>;

  before(function () {
    if (isRoot) return;
    this.test!.title += ' (mounting needs root)';
    this.skip();
  });
  beforeEach(async () => {
    healthy = await makePool();
    mkdirSync(join(healthy.base, 'hung'));
    hung = await holdHungMount(join(healthy.base, 'hung'));
    node = createNodeActivities({ node: HOST, stateDirectory: join(healthy.base, 'state') });
  });
  afterEach(async () => {
    // first: nothing can be removed while every thread waits for it
    await hung[Symbol.asyncDispose]();
    await healthy.remove();
  });

  const at = (path: string) => ({ pool: { path, useNamingPrefix: false }, foreignBytes: 0 });

  it('is refused, then at once, until it answers, and keeps nobody from another pool', async () => {
    const asked = Array.from({ length: MANY }, (_, n) => [
      assert.rejects(node.observePool(at(hung.path)), hangs),
      assert.rejects(node.reserveDirectory(request(hung.path, n)), hangs),
      assert.rejects(node.ensureBackingDirectory({ ...at(hung.path), labelledBy: 'node' }), hangs),
    ]).flat();
    const reserved = await node.reserveDirectory(request(healthy.path, 1));
    assert.equal(reserved.refused, undefined);
    await Promise.all(asked);
    await assert.rejects(node.removeDirectory({ directory: { ...reserved, pool: hung.path } }), hangs);
    await node.removeDirectory({ directory: reserved });
    await hung[Symbol.asyncDispose]();
    await eventually('another answer', 20_000, () =>
      node.observePool(at(hung.path)).then(
        () => true,
        (error: Error) => (error.message.includes('does not answer') ? undefined : true),
      ),
    );
  });

  it('tells whoever clones a volume of it to come again, and keeps nothing of this process for each of them', async () => {
    const volume = {
      volume: 'pv1',
      volumeUid: 'volume-1',
      node: HOST,
      path: join(hung.path, 'pvc-1'),
      volumeMode: 'Filesystem',
    } as const;
    const away = refusal(
      'NodeUnavailable',
      /the file system at .*\/hung\S* on node host-1 does not answer/,
      false,
    );
    for (const _ of Array(MANY)) await assert.rejects(openSourceTree(volume), away);
  });

  it('is told as unusable, once it has been waited for and at every later look', async () => {
    const pools = [hung.path, healthy.path].map((path) => ({ path, useNamingPrefix: false }));
    mkdirSync(healthy.path);
    for (const _ of Array(MANY)) {
      const report = await node.examineNode({ pools });
      assert.deepEqual(
        report.pools.map(({ state }) => state),
        ['unusable', 'usable'],
      );
      assert.match(report.pools[0]!.message!, /does not answer/);
    }
  });

  it('is known by work that does not end although a question was answered, as on a dead disk, until it ends', async () => {
    const path = healthy.base;
    let end = (): void => undefined;
    const work = new Promise<void>((resolve) => (end = resolve));
    await assert.rejects(
      lookAt(path, HOST, () => work),
      /does not answer/,
    );
    await assert.rejects(node.observePool(at(healthy.path)), /does not answer/);
    end();
    await work;
    await node.observePool(at(healthy.path));
  });
});
