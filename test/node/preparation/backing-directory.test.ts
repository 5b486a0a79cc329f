import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ApplicationFailure } from '@temporalio/common';
import { createNodeActivities } from '../../../activities/node/index.js';
import { ensureLabelRule } from '../../../activities/node/preparation/label-rule.js';
import { createPreparationActivities } from '../../../activities/node/preparation/index.js';
import { isRoot, request } from '../support.js';
import { FRESH, labelOf, makeSelinuxWorld, mountContainerLayer, onNode, setLabel } from './selinux-world.js';

const node = 'node-1';

describe('a backing directory', function () {
  this.timeout(20_000);
  let world: ReturnType<typeof makeSelinuxWorld>;
  let path: string;
  beforeEach(async () => {
    world = makeSelinuxWorld();
    await chmod(world.base, 0o755);
    path = join(world.base, 'some', 'where', 'pool');
  });
  afterEach(() => world.remove());

  const activities = (more = {}) =>
    createPreparationActivities({ node, selinuxfs: join(world.base, 'not-there'), ...more });
  const ensure = async (at = path, labelledBy: 'node' | 'machineConfig' = 'node') =>
    await onNode(() => activities().ensureBackingDirectory({ pool: { path: at }, labelledBy }));

  it('is made with its parents where it is missing, and taken as it is the second time', async () => {
    const first = await ensure();
    assert.deepEqual([first.created, first.selinux], [true, 'disabled']);
    assert.equal((await stat(path)).mode & 0o777, 0o755);
    await chmod(path, 0o700);
    assert.equal((await ensure()).created, false);
    assert.equal((await stat(path)).mode & 0o777, 0o700);
  });

  it('is left to the MachineConfig on RHCOS', async () => {
    assert.equal((await ensure(path, 'machineConfig')).created, false);
    await assert.rejects(stat(path), { code: 'ENOENT' });
  });

  it('is told apart from a file, at once and below one', async () => {
    const file = join(world.base, 'file');
    await writeFile(file, '');
    for (const at of [file, join(file, 'below')]) {
      const failure = await ensure(at).then(
        () => assert.fail('accepted'),
        (error: unknown) => error,
      );
      assert.ok(failure instanceof ApplicationFailure, String(failure));
      assert.equal(failure.type, 'NodeUnavailable');
      assert.match(failure.message, /^backing directory .* on node node-1 is no directory/);
    }
  });

  it('is warned of on the partition of the operating system, and not on one of its own', async function () {
    assert.ok((await ensure()).sharedWith, 'temporary files lie on the disk of the system here');
    if (!isRoot) return this.skip();
    const own = join(world.base, 'own');
    await mkdir(own);
    execFileSync('mount', ['-t', 'tmpfs', 'none', own]);
    try {
      assert.equal((await ensure(join(own, 'pool'))).sharedWith, undefined);
    } finally {
      execFileSync('umount', [own]);
    }
  });

  describe('behind a link', () => {
    let system: string;
    before(async function () {
      if (!isRoot) return this.skip();
      system = await mkdtemp('/var/log/dvflow-test-');
      await mkdir(join(system, 'inside'));
    });
    after(async () => {
      if (system) await rm(system, { recursive: true, force: true });
    });
    const enforcing = () => activities({ selinuxfs: world.selinuxfs });

    for (const [title, rest] of [
      ['at its end', []],
      ['on its way', ['inside']],
    ] as const) {
      it(`into the operating system ${title} is refused by every step, and nothing there gets a label`, async () => {
        const link = join(world.base, 'link');
        await symlink(system, link);
        const at = join(link, ...rest);
        setLabel(FRESH, system, join(system, 'inside'));
        for (const work of [
          () => enforcing().ensureBackingDirectory({ pool: { path: at }, labelledBy: 'node' }),
          () => enforcing().labelBackingDirectory({ path: at }),
          () => enforcing().verifyBackingDirectory({ path: at }),
        ]) {
          const failure = await onNode<unknown>(work).then(
            () => assert.fail('accepted'),
            (error: unknown) => error,
          );
          assert.ok(failure instanceof ApplicationFailure, String(failure));
          assert.equal(failure.type, 'NodeUnavailable');
          assert.match(
            failure.message,
            /leads to \/var\/log\/dvflow-test-\S+, which belongs to the operating/,
          );
        }
        assert.deepEqual([labelOf(system), labelOf(join(system, 'inside'))], [FRESH, FRESH]);
      });
    }

    it('that lets it be made in the operating system is refused before anything is made', async () => {
      const link = join(world.base, 'link');
      await symlink(system, link);
      await assert.rejects(ensure(join(link, 'new', 'pool')), /leads to \S+new\/pool, which belongs to/);
      await assert.rejects(stat(join(system, 'new')), { code: 'ENOENT' });
    });

    it('to a directory of its own is as good as that', async () => {
      const link = join(world.base, 'link');
      await mkdir(join(world.base, 'own'));
      await symlink(join(world.base, 'own'), link);
      assert.equal((await ensure(link)).created, false);
    });
  });

  it('that lies in the layer of a container is none, be it missing or not, by whoever it is labelled', async function () {
    if (!isRoot) return this.skip();
    const { path: disk, unmount } = mountContainerLayer(world.base);
    try {
      for (const by of ['node', 'machineConfig'] as const) {
        await assert.rejects(ensure(join(disk, 'pool'), by), /is missing, and the worker there sees no disk/);
        await assert.rejects(ensure(disk, by), /lies in its container, and the worker there sees no disk/);
      }
    } finally {
      unmount();
    }
  });

  it('is verified by the label that it really has', async function () {
    if (!isRoot) return this.skip();
    await mkdir(path, { recursive: true });
    const enforcing = activities({ selinuxfs: world.selinuxfs });
    const verify = async () => await enforcing.verifyBackingDirectory({ path });
    setLabel(FRESH, path);
    const before = await verify();
    assert.equal(before.labelled, false);
    assert.match(
      before.message,
      /has the SELinux label unconfined_u:object_r:var_t:s0 and needs the type container_file_t \(SELinux is enforcing\)/,
    );
    execFileSync('chcon', ['-t', 'container_file_t', path]);
    assert.equal((await verify()).labelled, true);
    await rm(path, { recursive: true });
    assert.match((await verify()).message, /does not exist on node node-1/);
  });
});

describe('permission denied', function () {
  this.timeout(20_000);
  let world: ReturnType<typeof makeSelinuxWorld>;
  let path: string;
  before(function () {
    if (!isRoot) this.skip();
  });
  beforeEach(async () => {
    world = makeSelinuxWorld();
    await chmod(world.base, 0o755);
    path = join(world.base, 'closed');
    await mkdir(path, { mode: 0o755 });
  });
  afterEach(() => world.remove());

  /** As a user without rights, whom the kernel refuses as SELinux would refuse a container. */
  async function refused(work: () => Promise<unknown>): Promise<ApplicationFailure> {
    process.seteuid!(65_534);
    try {
      const failure = await work().then(
        () => assert.fail('allowed'),
        (error: unknown) => error,
      );
      assert.ok(failure instanceof ApplicationFailure, String(failure));
      return failure;
    } finally {
      process.seteuid!(0);
    }
  }

  it('says in one message which directory, which label it has, which it needs, and what is done', async () => {
    setLabel(FRESH, path);
    const activities = createPreparationActivities({ node, selinuxfs: world.selinuxfs });
    const below = join(path, 'pool');
    const failure = await refused(() =>
      onNode(() => activities.ensureBackingDirectory({ pool: { path: below }, labelledBy: 'node' })),
    );
    assert.deepEqual([failure.type, failure.nonRetryable], ['PermissionDenied', false]);
    assert.match(
      failure.message,
      /^could not make \S+: permission denied: directory \S+closed on node node-1 /,
    );
    assert.match(failure.message, /label unconfined_u:object_r:var_t:s0 and needs the type container_file_t/);
    assert.match(
      failure.message,
      /SELinux is enforcing\): prepareStorage of its HostPathProvisioner sets it/,
    );
  });

  it('names owner and mode where the label is not the reason', async () => {
    setLabel('system_u:object_r:container_file_t:s0', path);
    const activities = createPreparationActivities({ node, selinuxfs: world.selinuxfs });
    const failure = await refused(() =>
      onNode(() =>
        activities.ensureBackingDirectory({ pool: { path: join(path, 'pool') }, labelledBy: 'node' }),
      ),
    );
    assert.match(failure.message, /belongs to 0:0 with mode 755, and this worker runs as 65534:/);
  });

  it('is recognised where volumes are made too, with the label that is the reason', async () => {
    setLabel(FRESH, path);
    const activities = createNodeActivities({ node, selinuxfs: world.selinuxfs });
    const says =
      /permission denied: directory \S+closed on node node-1 has the SELinux label unconfined_u:object_r:var_t:s0 and needs the type container_file_t \(SELinux is enforcing\): prepareStorage/;
    const observed = await refused(() =>
      activities.observePool({ pool: { path, useNamingPrefix: false }, foreignBytes: 0 }),
    );
    assert.equal(observed.type, 'PermissionDenied');
    assert.match(observed.message, says);
    await activities.reserveDirectory(request(path, 1));
    const reserved = await refused(() => activities.reserveDirectory(request(path, 2)));
    assert.equal(reserved.type, 'PermissionDenied');
    assert.match(reserved.message, says);
  });
});

describe('the rule that a relabel goes by', () => {
  let world: ReturnType<typeof makeSelinuxWorld>;
  const path = '/var/hp.volumes';
  const pattern = '/var/hp\\.volumes(/.*)?';
  beforeEach(() => {
    world = makeSelinuxWorld();
  });
  afterEach(() => world.remove());

  const rules = (): string => join(world.base, 'etc', 'targeted', 'contexts', 'files', 'file_contexts.local');
  async function setUp({ lines = [] as string[], does = '' } = {}) {
    await mkdir(join(rules(), '..'), { recursive: true });
    await writeFile(
      join(world.base, 'etc', 'config'),
      '# comment\nSELINUX=enforcing\nSELINUXTYPE=targeted\n',
    );
    await writeFile(rules(), lines.map((line) => `${line}\n`).join(''));
    const semanage = join(world.base, 'semanage');
    // policycoreutils cannot run on a kernel without SELinux: a program with its arguments and its file takes its place
    await writeFile(semanage, `#!/bin/sh\necho "$@" >> ${world.base}/called\n${does}\n`, { mode: 0o755 });
    return { etc: join(world.base, 'etc'), semanage };
  }
  const called = async (): Promise<string> =>
    await readFile(join(world.base, 'called'), 'utf8').catch(() => '');
  const writes = (): string =>
    `[ "$1" = fcontext ] && [ "$3" = -t ] && printf '%s    system_u:object_r:%s:s0\\n' "$5" "$4" >> ${rules()}`;

  it('is added where it is missing, and not a second time', async () => {
    const options = await setUp({ does: writes() });
    assert.equal((await ensureLabelRule(path, options)).rule, 'added');
    assert.equal((await ensureLabelRule(path, options)).rule, 'present');
    assert.equal(await called(), `fcontext -a -t container_file_t ${pattern}\n`);
  });

  it('is changed where it gives another type, and a rule of another directory is none', async () => {
    const options = await setUp({ does: writes(), lines: [`${pattern}  system_u:object_r:var_t:s0`] });
    assert.equal((await ensureLabelRule(path, options)).rule, 'added');
    assert.match(await called(), /^fcontext -m /);
  });

  for (const [title, does, why] of [
    ['says that it did, and did not', '', /ended well, and the rule is not there, and without the rule/],
    ['is locked', 'echo "store is locked" >&2; exit 1', /semanage ended with code 1: store is locked, and/],
    [
      'takes the path for another',
      `echo "ValueError: File spec conflicts with equivalency rule '/var/home /home'" >&2; exit 1`,
      /conflicts with equivalency rule .*restorecon -F and an autorelabel undo the label/,
    ],
  ] as const) {
    it(`is told to be missing where the tool ${title}: the node is usable all the same`, async () => {
      const { rule, message } = await ensureLabelRule(path, await setUp({ does }));
      assert.equal(rule, 'unavailable');
      assert.match(message, why);
    });
  }

  it('is told to be missing where there is no semanage', async () => {
    const { etc } = await setUp();
    const { rule, message } = await ensureLabelRule(path, {
      etc,
      semanage: join(world.base, 'no-such-tool'),
    });
    assert.equal(rule, 'unavailable');
    assert.match(
      message,
      /no semanage here, and without the rule .* restorecon -F and an autorelabel undo the label/,
    );
  });
});
