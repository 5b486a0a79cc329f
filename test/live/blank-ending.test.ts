import assert from 'node:assert/strict';
import { cancel } from '../../client/index.js';
import { killProcess, restartProcess, type ProcessName } from '../../local/index.js';
import { chosen, itIf } from '../support/breadth.js';
import { useStack } from '../support/stack.js';
import { createBlanks, MiB, WAITS_FOR_CONSUMER, type Blanks } from './blank-scene.js';
import { holdBinding, type Held } from './holding.js';
import { recordHistory } from './record.js';
import { createWorld, eventually, type DataVolume, type World } from './world.js';

const TOO_LARGE = {
  storage: { resources: { requests: { storage: '4Pi' } }, storageClassName: 'hostpath-provisioner' },
};

describe('how a blank disk ends', function () {
  this.timeout(240_000);
  const stack = useStack();
  let world: World;
  let blanks: Blanks;
  let namespace: string;
  let inventory: readonly string[];

  before(async () => {
    world = createWorld(stack);
    blanks = createBlanks(stack, world, () => namespace);
    namespace = await world.createNamespace('blank-ending');
  });
  beforeEach(async () => {
    inventory = await world.inventory();
  });
  afterEach(() => blanks.releaseAll());

  /** Ways to hold a run at one of its steps. */
  const steps: Record<string, (name: string) => Promise<Held>> = {
    'while it waits for room': async (name) => {
      const made = await blanks.create(name, TOO_LARGE);
      await eventually('the event with both figures', 30_000, async () => {
        const events = await world.events(namespace, name);
        return events.some(
          ({ reason, message }) => reason === 'InsufficientCapacity' && /\d+ on node/.test(message),
        )
          ? true
          : undefined;
      });
      return { made };
    },
    'while it waits for its first consumer': async (name) => {
      const made = await blanks.create(name, {}, WAITS_FOR_CONSUMER);
      await world.awaitPhase(namespace, name, 'WaitForFirstConsumer', 30_000);
      return { made };
    },
    'while the disk is created': async (name) => await blanks.hold(name),
    'while the disk is preallocated': async (name) => await blanks.hold(name, { preallocation: true }),
    'while the claim is bound': async (name) =>
      await holdBinding({ stack, world }, name, () => blanks.create(name)),
  };

  for (const [index, [step, hold]] of Object.entries(steps).entries()) {
    const isEven = index % 2 === 0;
    const suffix = step.split(' ').slice(-2).join('-');

    itIf(isEven)(`cancelled ${step}: Failed, reason Cancelled, nothing left`, async () => {
      const name = `cancelled-${suffix}`;
      const { made, release } = await hold(name);
      try {
        await cancel(stack.temporal, { namespace, name });
        if (step.includes('created') || step.includes('prealloc')) await release?.();
        const failed = await world.awaitPhase(namespace, name, 'Failed', 60_000);
        assert.equal(failed.status?.conditions?.find(({ type }) => type === 'Running')?.reason, 'Cancelled');
      } finally {
        await release?.();
      }
      assert.equal(await blanks.awaitClosed(made), 'CANCELLED');
      await world.assertUnchanged(inventory);
      await recordHistory(stack, blanks.idOf(made), `blankDataVolume.cancelled.${suffix}`);
    });

    itIf(!isEven)(`DataVolume deleted ${step}: nothing left, and the workflow is cancelled`, async () => {
      const name = `deleted-${suffix}`;
      const { made, release } = await hold(name);
      try {
        await world.remove(namespace, name);
        await eventually('the cancellation', 30_000, async () => {
          const { raw, status } = await stack.temporal.workflow.getHandle(blanks.idOf(made)).describe();
          return raw.workflowExtendedInfo?.cancelRequested || status.name !== 'RUNNING' ? true : undefined;
        });
      } finally {
        await release?.();
      }
      assert.equal(await blanks.awaitClosed(made), 'CANCELLED');
      await world.assertUnchanged(inventory);
    });
  }

  const victims: readonly ProcessName[] = ['worker-node', 'worker-control', 'temporal', 'kube-apiserver'];
  for (const victim of chosen(victims, (one) => one === 'worker-node'))
    it(`kill -9 of ${victim} while the disk is created: it is created, and right`, async () => {
      const { made, release } = await blanks.hold(`killed-${victim}`, blanks.pvc('500Mi'));
      killProcess(stack.info, victim, 'SIGKILL');
      await restartProcess(stack.info, victim);
      await release();
      await world.awaitPhase(namespace, made.metadata.name, 'Succeeded', 120_000);
      const { size, allocated } = await blanks.sizesOf(made.metadata.name);
      assert.equal(size, 471 * MiB);
      assert.ok(allocated < MiB);
      if (victim !== 'worker-node') return;
      await blanks.awaitClosed(made);
      await recordHistory(stack, blanks.idOf(made), 'blankDataVolume.resumed');
    });

  it('terminated while the disk is created: Failed, reason Terminated, and a sweep removes what is left', async () => {
    const { made, release } = await blanks.hold('terminated');
    await stack.temporal.workflow.getHandle(blanks.idOf(made)).terminate('an operator');
    await release();
    const failed = await world.awaitPhase(namespace, 'terminated', 'Failed', 60_000);
    assert.equal(failed.status?.conditions?.find(({ type }) => type === 'Running')?.reason, 'Terminated');
    await eventually('a sweep leaves nothing', 90_000, async () => {
      const sweep = await stack.temporal.workflow.start('sweep', {
        taskQueue: 'dvflow',
        workflowId: `sweep-${Date.now()}`,
        args: [{}],
      });
      await sweep.result();
      return await world.assertUnchanged(inventory, 1_000).then(
        () => true,
        () => undefined,
      );
    });
  });

  it('no progress within the deadline, in each of its waits: DeadlineExceeded, and its message says which', async () => {
    const deadline = { 'dvflow.io/deadline': '10s' };
    const late = await blanks.create('late', TOO_LARGE, deadline);
    await assertDeadline(late, /asks for \d+ bytes/);
    await recordHistory(stack, blanks.idOf(late), 'blankDataVolume.failed.deadline');
    const slow = await blanks.hold('slow', {}, deadline);
    await assertDeadline(slow.made, /a blank disk on node/);
    await slow.release();
    await blanks.awaitClosed(slow.made);
    await world.assertUnchanged(inventory, 60_000);
    await recordHistory(stack, blanks.idOf(slow.made), 'blankDataVolume.failed.deadline-in-creation');
  });

  async function assertDeadline({ metadata: { name } }: DataVolume, message: RegExp): Promise<void> {
    const failed = await world.awaitPhase(namespace, name, 'Failed', 60_000);
    const running = failed.status?.conditions?.find(({ type }) => type === 'Running');
    assert.equal(running?.reason, 'DeadlineExceeded');
    assert.match(running.message, message);
  }

  it('retried after a failure: a new run goes through once the class is there', async () => {
    const made = await blanks.create('again', blanks.pvc('64Mi', { storageClassName: 'blank-later' }));
    const failed = await world.awaitPhase(namespace, 'again', 'Failed', 30_000);
    assert.equal(
      failed.status?.conditions?.find(({ type }) => type === 'Running')?.reason,
      'StorageClassNotFound',
    );
    const storageClass = {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'StorageClass',
      metadata: { name: 'blank-later' },
      provisioner: 'kubevirt.io/hostpath-provisioner',
    };
    await stack.kubectl(['create', '-f', '-'], { input: JSON.stringify(storageClass) });
    try {
      await world.annotate(namespace, 'again', { 'dvflow.io/retry': 'once' });
      await eventually('success', 60_000, async () =>
        (await world.read(namespace, 'again'))?.status?.phase === 'Succeeded' ? true : undefined,
      );
      await blanks.awaitClosed(made);
      await recordHistory(stack, blanks.idOf(made), 'blankDataVolume.retried');
    } finally {
      await stack.kubectl(['delete', 'storageclass', 'blank-later']);
    }
  });
});
