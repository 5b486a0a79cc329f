import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { Context } from '@temporalio/activity';
import { permanentFailure, transientFailure } from '../../activities/failures.js';
import { pageOf } from '../../activities/item-pages.js';
import type { ItemPage, UnpublishedItem } from '../../activities/types.js';
import type { SweepResult } from '../../workflows/sweep.js';
import { CONTROL_QUEUE, nodeQueue, returnWorkflowId } from '../../workflows/task-queues.js';
import { useWorkers } from '../client/workers.js';

/** Workflow ids of what is in use, and of what nobody can judge. */
const RUNNING = 'w/running';
const ODD = 'w/odd';

/** An item of a DataVolume of its own, left by a run that was terminated. */
const left = (kind: UnpublishedItem['kind'], more: Partial<UnpublishedItem> = {}): UnpublishedItem => {
  const uid = randomUUID();
  return {
    kind,
    where: kind === 'Directory' ? 'n1' : '',
    name: `${kind.toLowerCase()}-${uid}`,
    objectUid: uid,
    dataVolume: { namespace: 'a', name: `disk-${uid}`, uid },
    workflowId: 'w/terminated',
    createdAt: '2020-01-01T00:00:00Z',
    ...more,
  };
};
const nameOf = ({ kind, where, name }: UnpublishedItem): string => `${kind} ${where}/${name}`;

describe('the sweeper, with other activities', function () {
  this.timeout(60_000);
  /** What the cluster holds, in Kubernetes and on node n1. */
  let objects: UnpublishedItem[] = [];
  let directories: UnpublishedItem[] = [];
  /** Activities that were called, with the number of items they got. */
  let called: string[] = [];
  const counts = new Map<string, number>();
  const leaks = (): readonly unknown[] =>
    ['found', 'removed'].map((what) => counts.get(`dvflow_leaked_objects_${what}_total`));
  let pages = true;
  /** Node n1 can list nothing. */
  let broken = false;
  /** The node of reserved volumes has been deleted. */
  let nodeless = false;
  let emptying: () => Promise<void>;

  const server = useWorkers({
    workflows: new URL('../../workflows/index.ts', import.meta.url),
    queues: () => ({ [CONTROL_QUEUE]: control, [nodeQueue('n1')]: node }),
    counted: (metric, value) => counts.set(metric, (counts.get(metric) ?? 0) + value),
  });
  beforeEach(() => {
    objects = [];
    directories = [];
    called = [];
    counts.clear();
    pages = true;
    broken = false;
    nodeless = false;
    emptying = async () => undefined;
  });

  const control = {
    listNodes: async () => ({ nodes: ['n1'], pools: [], placed: [] }),
    listUnpublished: async (page: ItemPage) => (pages ? pageOf(objects, page) : objects),
    judgeUnpublished: async ({ items }: { items: UnpublishedItem[] }) => {
      called.push(`judge ${items.length}`);
      if (items.some(({ workflowId }) => workflowId === ODD))
        throw permanentFailure('InvalidArgument', 'odd');
      return items.filter(({ workflowId }) => workflowId !== RUNNING);
    },
    removeUnpublished: async ({ item }: { item: UnpublishedItem }) => {
      assert.notEqual(item.kind, 'TransferState', 'of that there is no object');
      called.push(`remove ${nameOf(item)}`);
    },
    withdrawVolume: async ({ dataVolume }: { dataVolume: UnpublishedItem['dataVolume'] }) => {
      called.push('withdraw');
      return nodeless
        ? { waiting: 'its node is not in the cluster' }
        : { volume: { node: 'n1', dataVolume } };
    },
    releaseVolume: async ({ volume }: { volume: { dataVolume: { uid: string } } }) => {
      called.push(`release ${volume.dataVolume.uid}`);
    },
  };
  const node = {
    listUnpublishedDirectories: async (page: ItemPage) => {
      if (broken) throw transientFailure('NoSpace', 'pool /var/hpvolumes on node n1 cannot be used: EIO');
      return pageOf(directories, page);
    },
    removeUnpublishedDirectory: async ({ item }: { item: UnpublishedItem }) => {
      called.push(`remove ${nameOf(item)}`);
    },
    emptyReservedVolume: async () => {
      called.push('empty');
      await emptying();
    },
  };
  const start = async () =>
    await server().client.workflow.start('sweep', {
      workflowId: `sweep-${randomUUID()}`,
      taskQueue: CONTROL_QUEUE,
      args: [{}],
    });
  const sweep = async (): Promise<SweepResult> => (await (await start()).result()) as SweepResult;
  /** Most attempts of each activity of a run. */
  const attemptsOf = async (workflowId: string): Promise<Record<string, number>> => {
    const { events } = await server().client.workflow.getHandle(workflowId).fetchHistory();
    const scheduled = (events ?? []).flatMap((event) => event.activityTaskScheduledEventAttributes ?? []);
    return Object.fromEntries<number>(
      scheduled.map(({ activityType, retryPolicy }) => [
        activityType?.name ?? '',
        Number(retryPolicy?.maximumAttempts ?? 0),
      ]),
    );
  };

  it('gives a reserved volume back, and says so', async () => {
    const volume = left('PersistentVolume', { reserved: true });
    objects = [volume, left('Secret')];
    const { found, removed } = await sweep();
    assert.equal(found, 2);
    assert.deepEqual([...removed].sort(), objects.map(nameOf).sort());
    assert.ok(called.includes(`release ${volume.dataVolume.uid}`));
    assert.deepEqual(leaks(), [2, 2]);
  });

  it('does not wait for a volume that takes long to empty, nor begins it twice', async () => {
    const volume = left('PersistentVolume', { reserved: true });
    const secret = left('Secret');
    objects = [volume, secret];
    let end = (): void => undefined;
    const ended = new Promise<void>((resolve) => (end = resolve));
    emptying = async () => {
      const beating = setInterval(() => Context.current().heartbeat(), 1000);
      await ended;
      clearInterval(beating);
    };
    try {
      assert.deepEqual((await sweep()).removed, [nameOf(secret)]);
      assert.deepEqual((await sweep()).removed, [nameOf(secret)]);
      assert.equal(called.filter((name) => name === 'empty').length, 1);
      assert.ok(!called.some((name) => name.startsWith('release')));
      // an alert tells of what is found and not removed
      assert.deepEqual(leaks(), [2, 2]);
    } finally {
      end();
    }
    const run = server().client.workflow.getHandle(returnWorkflowId(volume.dataVolume.uid));
    assert.deepEqual(await run.result(), { returned: true });
    assert.ok(called.includes(`release ${volume.dataVolume.uid}`));
    assert.deepEqual(leaks(), [3, 3]);
  });

  it('has a node forget a transfer whose run is over', async () => {
    const state = left('TransferState', { where: 'n1' });
    directories = [state];
    assert.deepEqual((await sweep()).removed, [nameOf(state)]);
    assert.ok(called.includes(`remove ${nameOf(state)}`));
  });

  it('leaves a volume reserved whose node has been deleted, and says why', async () => {
    const volume = left('PersistentVolume', { reserved: true });
    objects = [volume, left('Secret')];
    nodeless = true;
    assert.deepEqual((await sweep()).removed, [nameOf(objects[1]!)]);
    const run = server().client.workflow.getHandle(returnWorkflowId(volume.dataVolume.uid));
    assert.deepEqual(await run.result(), { returned: false, why: 'its node is not in the cluster' });
    assert.deepEqual(
      called.filter((name) => /^(withdraw|empty|release)/.test(name)),
      ['withdraw'],
    );
    assert.deepEqual(leaks(), [2, 1]);
  });

  it('calls no node silent whose worker answers that its pool is broken, and sweeps the rest', async () => {
    const secret = left('Secret');
    objects = [secret];
    broken = true;
    const { removed, silentNodes } = await sweep();
    assert.deepEqual([removed, silentNodes], [[nameOf(secret)], []]);
  });

  it('sweeps beside thousands of running imports', async () => {
    const many = (kind: UnpublishedItem['kind']) =>
      Array.from({ length: 1100 }, () => left(kind, { workflowId: RUNNING }));
    const unowned = [left('Directory'), left('PersistentVolumeClaim'), left('Secret')];
    objects = [...many('Secret'), ...unowned.slice(1), ...many('PersistentVolumeClaim')];
    directories = [...many('Directory'), unowned[0]!];
    const { found, removed } = await sweep();
    assert.equal(found, 3303);
    assert.deepEqual([...removed].sort(), unowned.map(nameOf).sort());
    const judged = called.flatMap((name) => (name.startsWith('judge ') ? [Number(name.slice(6))] : []));
    assert.equal(Math.max(...judged), 200);
  });

  it('takes a list of a worker that knows no pages', async () => {
    objects = Array.from({ length: 500 }, () => left('Secret', { workflowId: RUNNING }));
    pages = false;
    assert.equal((await sweep()).found, 500);
  });

  it('sweeps the others where a part cannot be judged, and says it where none can', async () => {
    const odd = Array.from({ length: 150 }, () => left('PersistentVolumeClaim', { workflowId: ODD }));
    const secrets = Array.from({ length: 70 }, () => left('Secret'));
    objects = [...odd, ...secrets];
    assert.equal((await sweep()).removed.length, 20);
    objects = odd;
    await assert.rejects(sweep());
  });

  it('tries what concerns one item a few times, not for ever', async () => {
    const volume = left('PersistentVolume', { reserved: true });
    objects = [volume, left('Secret')];
    directories = [left('Directory')];
    const swept = await start();
    await swept.result();
    const { listNodes: _, listUnpublished: __, ...tried } = await attemptsOf(swept.workflowId);
    assert.deepEqual(tried, {
      listUnpublishedDirectories: 1,
      judgeUnpublished: 5,
      removeUnpublishedDirectory: 5,
      removeUnpublished: 5,
    });
    assert.deepEqual(await attemptsOf(returnWorkflowId(volume.dataVolume.uid)), {
      judgeUnpublished: 5,
      withdrawVolume: 5,
      emptyReservedVolume: 5,
      releaseVolume: 5,
    });
    assert.deepEqual(leaks(), [3, 3]);
  });
});
