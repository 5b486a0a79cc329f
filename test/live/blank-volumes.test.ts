import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cancel } from '../../client/index.js';
import { killProcess, restartProcess } from '../../local/index.js';
import { chosen } from '../support/breadth.js';
import { useStack } from '../support/stack.js';
import { createBlanks, MiB, type Blanks } from './blank-scene.js';
import { recordHistory } from './record.js';
import { createWorld, eventually, type World } from './world.js';

const CLASS = 'deploy/examples/storage-class-local.yaml';
const DEVICE = 64 * MiB;

describe('blank disks on local block volumes', function () {
  this.timeout(180_000);
  const stack = useStack();
  let world: World;
  let blanks: Blanks;
  let namespace: string;
  let base: string;
  const devices: string[] = [];

  before(async function () {
    if (process.getuid?.() !== 0) {
      this.test!.title += ' (loop devices need root)';
      this.skip();
    }
    world = createWorld(stack);
    blanks = createBlanks(stack, world, () => namespace);
    namespace = await world.createNamespace('blank-volumes');
    base = mkdtempSync(join(tmpdir(), 'dvflow-blank-'));
    await stack.kubectl(['apply', '-f', CLASS]);
  });
  afterEach(async () => {
    await stack.kubectl(['delete', 'dv', '--all', '-n', namespace]);
    await stack.kubectl(['delete', 'pv', '-l', 'test=blank-volumes', '--wait=false']);
    for (const device of devices.splice(0)) execFileSync('losetup', ['--detach', device]);
  });
  after(async () => {
    if (base) rmSync(base, { recursive: true });
    await stack.kubectl(['delete', '-f', CLASS, '--ignore-not-found']);
  });

  /** A device full of somebody's old data, as a PersistentVolume. */
  async function volume(name: string): Promise<{ readonly content: () => Set<number> }> {
    const file = join(base, name);
    const fd = openSync(file, 'w');
    writeSync(fd, Buffer.alloc(DEVICE, 0xaa));
    closeSync(fd);
    const device = execFileSync('losetup', ['--find', '--show', file], { encoding: 'utf8' }).trim();
    devices.push(device);
    const term = { key: 'kubernetes.io/hostname', operator: 'In', values: [stack.info.node] };
    await world.core.createPersistentVolume({
      body: {
        metadata: { name, labels: { test: 'blank-volumes' } },
        spec: {
          storageClassName: 'local',
          volumeMode: 'Block',
          accessModes: ['ReadWriteOnce'],
          capacity: { storage: '64Mi' },
          local: { path: device },
          nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [term] }] } },
        },
      },
    });
    return {
      content() {
        execFileSync('blockdev', ['--flushbufs', device]);
        return new Set(readFileSync(file));
      },
    };
  }

  async function becomesAvailable(name: string): Promise<void> {
    await eventually(`volume ${name} is Available`, 60_000, async () => {
      const { spec, status } = await world.core.readPersistentVolume({ name });
      return status?.phase === 'Available' && !spec?.claimRef ? true : undefined;
    });
  }

  const onDevice = (more: object = {}) => ({
    ...blanks.pvc('64Mi', { storageClassName: 'local', volumeMode: 'Block' }),
    ...more,
  });

  it('leaves the device as it is, and offers it', async () => {
    const { content } = await volume('kept');
    const made = await blanks.create('kept', onDevice());
    await world.awaitPhase(namespace, 'kept', 'Succeeded', 60_000);
    const claim = await world.claim(namespace, 'kept');
    assert.deepEqual([claim?.status?.phase, claim?.spec?.volumeName], ['Bound', 'kept']);
    assert.equal(claim?.metadata?.annotations?.['cdi.kubevirt.io/storage.preallocation'], undefined);
    assert.deepEqual(content(), new Set([0xaa]));
    await blanks.awaitClosed(made);
    await recordHistory(stack, blanks.idOf(made), 'blankDataVolume.succeeded.block');
  });

  it('zeroes the whole device where preallocation is asked for, and its claim says so', async () => {
    const { content } = await volume('zeroed');
    await blanks.create('zeroed', onDevice({ preallocation: true }));
    await world.awaitPhase(namespace, 'zeroed', 'Succeeded', 60_000);
    const claim = await world.claim(namespace, 'zeroed');
    assert.equal(claim?.metadata?.annotations?.['cdi.kubevirt.io/storage.preallocation'], 'true');
    assert.deepEqual(content(), new Set([0]));
  });

  it('waits for a volume, and goes on when there is one', async () => {
    const made = await blanks.create('waiting', onDevice());
    await eventually('it says what it waits for', 30_000, async () => {
      const found = await world.read(namespace, 'waiting');
      return found?.status?.conditions?.find(({ reason }) => reason === 'FailedBinding');
    });
    assert.equal(await world.claim(namespace, 'waiting'), undefined, 'no claim before its volume');
    await volume('waited-for');
    await world.awaitPhase(namespace, 'waiting', 'Succeeded', 60_000);
    await blanks.awaitClosed(made);
    await recordHistory(stack, blanks.idOf(made), 'blankDataVolume.succeeded.after-volume');
  });

  for (const preallocation of chosen([false, true], (zeroed) => zeroed))
    it(`gives the volume back when it is cancelled before it is Bound, ${preallocation ? 'zeroed' : 'with what it holds'}`, async () => {
      const name = `cancelled-${preallocation}`;
      const { content } = await volume(name);
      // nobody is offered a volume that its controller has not seen
      await becomesAvailable(name);
      killProcess(stack.info, 'kube-controller-manager', 'SIGKILL');
      try {
        const made = await blanks.create(name, onDevice({ preallocation }));
        await eventually('the disk is offered', 60_000, async () => {
          const { spec } = await world.core.readPersistentVolume({ name });
          return spec?.claimRef?.name === name ? true : undefined;
        });
        await cancel(stack.temporal, { namespace, name });
        await world.awaitPhase(namespace, name, 'Failed', 60_000);
        await restartProcess(stack.info, 'kube-controller-manager');
        assert.equal(await blanks.awaitClosed(made), 'CANCELLED');
        if (!preallocation) await recordHistory(stack, blanks.idOf(made), 'blankDataVolume.cancelled.block');
      } finally {
        await restartProcess(stack.info, 'kube-controller-manager');
      }
      await becomesAvailable(name);
      assert.equal(await world.claim(namespace, name), undefined);
      assert.deepEqual(content(), new Set([preallocation ? 0 : 0xaa]));
    });

  it('is offered by one of two that want the only volume, and the other waits', async () => {
    await volume('only');
    await Promise.all([blanks.create('one', onDevice()), blanks.create('other', onDevice())]);
    const winner = await eventually('one succeeds', 60_000, async () => {
      for (const name of ['one', 'other'])
        if ((await world.read(namespace, name))?.status?.phase === 'Succeeded') return name;
      return undefined;
    });
    const loser = winner === 'one' ? 'other' : 'one';
    assert.equal(await world.claim(namespace, loser), undefined);
  });
});
