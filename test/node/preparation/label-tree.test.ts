import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CancelledFailure } from '@temporalio/common';
import { MockActivityEnvironment } from '@temporalio/testing';
import { createPreparationActivities } from '../../../activities/node/preparation/index.js';
import type { LabelProgress, LabelResult } from '../../../activities/types/preparation.js';
import { cases } from '../../support/breadth.js';
import { isRoot } from '../support.js';
import { FRESH, labelOf, makeSelinuxWorld, onNode, setLabel } from './selinux-world.js';

const node = 'node-1';

describe('labelling a backing directory (real labels, judged by ls -Z)', function () {
  this.timeout(30_000);
  let world: ReturnType<typeof makeSelinuxWorld>;
  let path: string;

  before(function () {
    if (isRoot) return;
    this.test!.title += ' (setting labels needs root)';
    this.skip();
  });
  beforeEach(async () => {
    world = makeSelinuxWorld();
    path = join(world.base, 'pool');
    await mkdir(path);
  });
  afterEach(() => world.remove());

  const activities = (maxEntries?: number) =>
    createPreparationActivities({ node, selinuxfs: world.selinuxfs, maxEntries });
  const label = async (after?: LabelProgress, maxEntries?: number): Promise<LabelResult> =>
    await onNode(() => activities(maxEntries).labelBackingDirectory({ path, ...(after ? { after } : {}) }));
  const all = async (): Promise<string[]> => [
    path,
    ...(await readdir(path, { recursive: true })).map((name) => join(path, name)),
  ];

  /** Volumes with a disk each, as a provisioner without a label made them. */
  async function makeVolumes(count: number): Promise<void> {
    for (let n = 0; n < count; n += 1) {
      await mkdir(join(path, `pvc-${n}`, 'deep', 'er'), { recursive: true });
      await writeFile(join(path, `pvc-${n}`, 'disk.img'), 'data');
    }
    setLabel(FRESH, ...(await all()));
  }

  it('gives all of a tree the type, keeps user, role and level, and reports how much that was', async () => {
    await makeVolumes(3);
    const result = await label();
    assert.deepEqual(
      { examined: result.examined, changed: result.changed, complete: result.complete },
      { examined: 1 + 3 * 4, changed: 1 + 3 * 4, complete: true },
    );
    for (const one of await all())
      assert.equal(labelOf(one), 'unconfined_u:object_r:container_file_t:s0', one);
  });

  it('changes only what differs, and nothing the second time', async () => {
    await makeVolumes(2);
    const level = 'system_u:object_r:container_file_t:s0:c5,c9';
    setLabel(level, join(path, 'pvc-0'), join(path, 'pvc-0', 'disk.img'));
    assert.equal((await label()).changed, 9 - 2);
    assert.equal(labelOf(join(path, 'pvc-0', 'disk.img')), level);
    assert.equal((await label()).changed, 0);
  });

  it('does as chcon does where chcon can, and labels what has none, where chcon gives up', async () => {
    await makeVolumes(1);
    await mkdir(join(path, 'unlabelled'));
    assert.throws(() => execFileSync('chcon', ['-Rt', 'container_file_t', path], { stdio: 'pipe' }));
    await label();
    assert.equal(labelOf(join(path, 'unlabelled')), 'system_u:object_r:container_file_t:s0');
    assert.equal(labelOf(join(path, 'pvc-0')), 'unconfined_u:object_r:container_file_t:s0');
  });

  it('labels a link itself, and nothing that a link leads to', async () => {
    await mkdir(join(world.base, 'outside'));
    await writeFile(join(world.base, 'outside', 'file'), '');
    setLabel(FRESH, join(world.base, 'outside'), join(world.base, 'outside', 'file'));
    await symlink('../outside', join(path, 'to-a-directory'));
    await symlink('../outside/file', join(path, 'to-a-file'));
    await symlink('/', join(path, 'to-the-root'));
    assert.equal((await label()).examined, 4);
    for (const name of ['outside', 'outside/file']) assert.equal(labelOf(join(world.base, name)), FRESH);
    assert.match(labelOf(join(path, 'to-a-directory')), /:container_file_t:/);
  });

  it('stays on its file system', async () => {
    const mounted = join(path, 'mounted');
    await mkdir(mounted);
    execFileSync('mount', ['-t', 'tmpfs', 'none', mounted]);
    try {
      await writeFile(join(mounted, 'file'), '');
      setLabel(FRESH, mounted, join(mounted, 'file'));
      await label();
      assert.equal(labelOf(mounted), FRESH);
      assert.equal(labelOf(join(mounted, 'file')), FRESH);
    } finally {
      execFileSync('umount', [mounted]);
    }
  });

  it('takes any name, and any depth as far as it is bounded', async () => {
    await mkdir(join(path, '-rf \n $HOME'));
    await writeFile(Buffer.concat([Buffer.from(`${path}/`), Buffer.from([0xff, 0xfe])]), '');
    execFileSync('sh', ['-c', 'for i in $(seq 250); do mkdir d && cd -P d || exit 1; done'], { cwd: path });
    const { complete, tooDeep } = await label();
    assert.deepEqual([complete, tooDeep], [true, 1]);
    assert.match(labelOf(join(path, '-rf \n $HOME')), /:container_file_t:/);
    assert.match(
      execFileSync('ls', ['-Z'], { cwd: path, encoding: 'latin1' }),
      /container_file_t:s0 .*\xff\xfe/,
    );
  });

  it('is bounded: one call ends, and the next goes on where it ended', async () => {
    await makeVolumes(5);
    const calls: LabelResult[] = [];
    for (let after: LabelResult | undefined; !after?.complete;) {
      after = await label(after, 6);
      calls.push(after);
      assert.ok(calls.length < 10);
    }
    assert.deepEqual(
      calls.map(({ examined, complete }) => [examined, complete]),
      [
        [9, false],
        [18, false],
        [23, true],
      ],
    );
    for (const one of await all()) assert.match(labelOf(one), /:container_file_t:/);
  });

  it('resumes after the entry that the attempt before had finished, by its heartbeat', async () => {
    await makeVolumes(4);
    const beats: LabelProgress[] = [];
    await onNode(() => activities().labelBackingDirectory({ path }), { beats });
    setLabel(FRESH, ...(await all()));
    const heartbeatDetails = beats.find(({ cursor }) => cursor === 'pvc-1');
    assert.ok(heartbeatDetails);
    const result = await onNode(() => activities().labelBackingDirectory({ path }), { heartbeatDetails });
    assert.equal(result.complete, true);
    assert.equal(labelOf(join(path, 'pvc-1')), FRESH, 'looked at once more');
    assert.match(labelOf(join(path, 'pvc-2')), /:container_file_t:/);
  });

  it('ends at a cancel', async () => {
    await makeVolumes(3);
    const environment = new MockActivityEnvironment();
    environment.on('heartbeat', () => environment.cancel('CANCELLED'));
    await assert.rejects(
      environment.run<[], LabelResult, () => Promise<LabelResult>>(() =>
        activities().labelBackingDirectory({ path }),
      ),
      CancelledFailure,
    );
    assert.equal(labelOf(join(path, 'pvc-2')), FRESH);
  });

  it('touches nothing where SELinux is disabled, and labels where it is permissive', async () => {
    await makeVolumes(1);
    const disabled = createPreparationActivities({ node, selinuxfs: join(world.base, 'not-there') });
    assert.equal((await onNode(() => disabled.labelBackingDirectory({ path }))).examined, 0);
    assert.equal(labelOf(path), FRESH);
    world.setEnforcing(false);
    assert.equal((await label()).changed, 5);
  });

  it('two workers at once end with a labelled tree', async () => {
    await makeVolumes(20);
    await Promise.all([label(), label(), label()]);
    for (const one of await all()) assert.match(labelOf(one), /:container_file_t:/);
  });

  it('labels very many entries in bounded time and says how many', async function () {
    this.timeout(120_000);
    const directories = cases(20, 100);
    const make = `for d in $(seq ${directories}); do mkdir v$d; (cd v$d; seq 1000 | xargs touch); done`;
    execFileSync('sh', ['-c', make], { cwd: path });
    const startedAt = Date.now();
    const { examined, changed } = await label();
    const first = Date.now() - startedAt;
    await label();
    const second = Date.now() - startedAt - first;
    const entries = 1001 * directories + 1;
    assert.deepEqual([examined, changed], [entries, entries]);
    console.log(`        ${entries} entries: labelled in ${first} ms, looked at again in ${second} ms`);
    assert.ok(first < 60_000);
  });
});
