import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { CoreV1Api, CustomObjectsApi, KubeConfig, StorageV1Api, type V1Node } from '@kubernetes/client-node';
import type { WorkflowExecutionDescription } from '@temporalio/client';
import { MERGE_PATCH } from '../../activities/kubernetes/client.js';
import { isStopped, latestOf } from '../../activities/kubernetes/preparation/runs.js';
import type { WatchedProvisioner } from '../../activities/kubernetes/preparation/objects.js';
import { isDue, isMisplaced, nodeFingerprint } from '../../workers/control/provisioners.js';
import { prepareStorageWorkflowId } from '../../workflows/task-queues.js';
import { eventually, useControlStack } from './support.js';

const PLURAL = {
  group: 'hostpathprovisioner.kubevirt.io',
  version: 'v1beta1',
  plural: 'hostpathprovisioners',
} as const;

/** Replicas answer to nodes two seconds after the last of their changes, one object after the other. */
const QUIET_MS = 4_000;

describe('the watch of HostPathProvisioners, with real Kubernetes and Temporal', function () {
  this.timeout(120_000);
  const stack = useControlStack();
  let core: CoreV1Api;
  let custom: CustomObjectsApi;
  let storage: StorageV1Api;

  before(async () => {
    const admin = new KubeConfig();
    admin.loadFromFile(stack.info.kubeconfig);
    core = admin.makeApiClient(CoreV1Api);
    custom = admin.makeApiClient(CustomObjectsApi);
    storage = admin.makeApiClient(StorageV1Api);
    await Promise.all([stack.startWatch({ relistMs: 4_000 }), stack.startWatch({ relistMs: 4_000 })]);
  });

  const create = async (name: string): Promise<WatchedProvisioner> =>
    (await custom.createClusterCustomObject({
      ...PLURAL,
      body: {
        apiVersion: 'hostpathprovisioner.kubevirt.io/v1beta1',
        kind: 'HostPathProvisioner',
        metadata: { name },
        spec: { pathConfig: { path: '/var/hpvolumes' } },
      },
    })) as WatchedProvisioner;
  const idOf = ({ metadata }: WatchedProvisioner): string => prepareStorageWorkflowId(metadata);
  const run = async (id: string): Promise<WorkflowExecutionDescription> =>
    await eventually(`run ${id}`, () =>
      stack.temporal.workflow
        .getHandle(id)
        .describe()
        .catch(() => undefined),
    );
  const wakes = async (id: string): Promise<number> => {
    const { events } = await stack.temporal.workflow.getHandle(id).fetchHistory();
    return (events ?? []).filter((event) => event.workflowExecutionSignaledEventAttributes).length;
  };

  /** Number of wakes once none has come for longer than each replica takes to tell every object of a change of the nodes. */
  const quiet = async (id: string): Promise<number> => {
    let last = await wakes(id);
    for (let since = Date.now(); Date.now() - since < QUIET_MS; await pause(200)) {
      const now = await wakes(id);
      if (now === last) continue;
      last = now;
      since = Date.now();
    }
    return last;
  };

  it('starts one run for an object, whoever watches', async () => {
    const made = await create('one');
    const { type, runId, taskQueue } = await run(idOf(made));
    assert.deepEqual([type, taskQueue], ['prepareStorage', 'dvflow']);
    await pause(1500);
    assert.equal((await run(idOf(made))).runId, runId);
    const { events } = await stack.temporal.workflow.getHandle(idOf(made)).fetchHistory();
    const input = events?.[0]?.workflowExecutionStartedEventAttributes?.input?.payloads?.[0]?.data;
    assert.deepEqual(JSON.parse(Buffer.from(input ?? []).toString()), {
      name: 'one',
      uid: made.metadata.uid,
    });
  });

  it('tells the run of a changed specification and a changed question, not of a changed status', async () => {
    const made = await create('two');
    await run(idOf(made));
    const before = await quiet(idOf(made));
    const status = { conditions: [{ type: 'Available', status: 'False' }] };
    await custom.patchClusterCustomObjectStatus({ ...PLURAL, name: 'two', body: { status } }, MERGE_PATCH);
    await pause(1500);
    assert.equal(await wakes(idOf(made)), before);
    await custom.patchClusterCustomObject(
      { ...PLURAL, name: 'two', body: { spec: { pathConfig: { path: '/var/other' } } } },
      MERGE_PATCH,
    );
    await eventually('a wake for the path', async () => (await wakes(idOf(made))) > before);
    const then = await quiet(idOf(made));
    const annotations = { 'dvflow.io/storage-class': 'x' };
    await custom.patchClusterCustomObject(
      { ...PLURAL, name: 'two', body: { metadata: { annotations } } },
      MERGE_PATCH,
    );
    await eventually('a wake for the class', async () => (await wakes(idOf(made))) > then);
  });

  it('tells every run of a node that comes, becomes another one, and goes', async () => {
    const made = await create('three');
    await run(idOf(made));
    for (const change of [
      () => core.createNode({ body: { metadata: { name: 'new' } } }),
      () => core.patchNode({ name: 'new', body: { metadata: { labels: { disk: 'ssd' } } } }, MERGE_PATCH),
      () => core.deleteNode({ name: 'new' }),
    ]) {
      const before = await quiet(idOf(made));
      await change();
      await eventually('a wake', async () => (await wakes(idOf(made))) > before);
    }
  });

  it('has a run look at what is gone, be it under way or long over', async () => {
    const made = await create('four');
    await run(idOf(made));
    const before = await quiet(idOf(made));
    await custom.deleteClusterCustomObject({ ...PLURAL, name: 'four' });
    await eventually('a wake', async () => (await wakes(idOf(made))) > before);

    const other = await create('five');
    const first = await run(idOf(other));
    await stack.temporal.workflow.getHandle(idOf(other)).terminate('for the test');
    await custom.deleteClusterCustomObject({ ...PLURAL, name: 'five' });
    await eventually('another run', async () => (await run(idOf(other))).runId !== first.runId);
  });

  it('begins nothing anew for a node where a person has stopped the preparation', async () => {
    const made = await create('six');
    const first = await run(idOf(made));
    const status = { observedGeneration: made.metadata.generation, conditions: [] };
    await custom.patchClusterCustomObjectStatus({ ...PLURAL, name: 'six', body: { status } }, MERGE_PATCH);
    await stack.temporal.workflow.getHandle(idOf(made)).terminate('for the test');
    const other = await create('seven');
    const before = await run(idOf(other));
    const wakesBefore = await quiet(idOf(other));
    await core.createNode({ body: { metadata: { name: 'cordoned' } } });
    await core.patchNode({ name: 'cordoned', body: { spec: { unschedulable: true } } }, MERGE_PATCH);
    await eventually('the other run hears of it', async () => (await wakes(idOf(other))) > wakesBefore);
    await pause(1000);
    assert.equal((await run(idOf(made))).runId, first.runId);
    assert.equal((await run(idOf(other))).runId, before.runId);
    await core.deleteNode({ name: 'cordoned' });
  });

  it('wakes nobody just because a control worker starts', async () => {
    const made = await create('eight');
    await run(idOf(made));
    const before = await quiet(idOf(made));
    await stack.startWatch({ relistMs: 60_000 });
    await pause(4000);
    assert.equal(await wakes(idOf(made)), before);
  });

  it('finds what was made for an object that went while nobody watched', async () => {
    const uid = '11111111-1111-1111-1111-111111111111';
    await storage.createStorageClass({
      body: {
        metadata: {
          name: 'left-over',
          labels: { 'dvflow.io/made-for': uid },
          annotations: {
            'dvflow.io/host-path-provisioner': 'long-gone',
            'dvflow.io/made-as': 'left-over',
          },
        },
        provisioner: 'kubevirt.io/hostpath-provisioner',
      },
    });
    const { type } = await run(prepareStorageWorkflowId({ name: 'long-gone', uid }));
    assert.equal(type, 'prepareStorage');
    await storage.deleteStorageClass({ name: 'left-over' });
  });
});

describe('whether an object that nothing was heard about needs a run', () => {
  const now = Date.parse('2026-01-02T12:00:00Z');
  const hoursAgo = (hours: number): Date => new Date(now - hours * 3_600_000);
  const object = (
    observedGeneration: number | undefined,
    degraded = 'False',
    reason = 'x',
  ): WatchedProvisioner => ({
    metadata: { name: 'a', uid: 'u', generation: 2 },
    status: {
      ...(observedGeneration === undefined ? {} : { observedGeneration }),
      conditions: [{ type: 'Degraded', status: degraded, reason }],
    },
  });
  const rows: readonly [string, WatchedProvisioner, Parameters<typeof isDue>[1], boolean][] = [
    ['nobody has judged it', object(undefined), undefined, true],
    [
      'an older generation was judged',
      object(1),
      { running: false, status: 'COMPLETED', closedAt: hoursAgo(0.1) },
      true,
    ],
    ['it runs', object(1), { running: true, status: 'RUNNING' }, false],
    ['all is well, lately', object(2), { running: false, status: 'COMPLETED', closedAt: hoursAgo(1) }, false],
    [
      'all was well, long ago',
      object(2),
      { running: false, status: 'COMPLETED', closedAt: hoursAgo(7) },
      true,
    ],
    ['all was well, and Temporal has forgotten the run', object(2), undefined, false],
    [
      'it failed lately',
      object(2, 'True'),
      { running: false, status: 'FAILED', closedAt: hoursAgo(0.5) },
      false,
    ],
    [
      'it failed some time ago',
      object(2, 'True'),
      { running: false, status: 'FAILED', closedAt: hoursAgo(2) },
      true,
    ],
    [
      'a changed one failed lately all the same',
      object(1),
      { running: false, status: 'FAILED', closedAt: hoursAgo(0.5) },
      false,
    ],
    [
      'a person cancelled it',
      object(2, 'True'),
      { running: false, status: 'CANCELLED', closedAt: hoursAgo(9) },
      false,
    ],
    ['it is degraded and nobody works on it', object(2, 'True'), undefined, true],
    [
      'it chooses no node, and none has come',
      object(2, 'True', 'NoNodes'),
      { running: false, status: 'COMPLETED', closedAt: hoursAgo(1) },
      false,
    ],
  ];
  for (const [title, provisioner, latest, due] of rows)
    it(`${title}: ${due ? 'yes' : 'no'}`, () => assert.equal(isDue(provisioner, latest, now), due));

  it('other nodes are chosen than were prepared: yes, unless a person has stopped it or it failed lately', () => {
    const ended = { running: false, closedAt: hoursAgo(0.5) };
    for (const [status, due] of [
      ['COMPLETED', true],
      ['CANCELLED', false],
      ['TERMINATED', false],
      ['FAILED', false],
    ] as const) {
      assert.equal(isDue(object(2), { ...ended, status }, now, true), due, status);
      assert.equal(isDue(object(2, 'True', 'NoNodes'), { ...ended, status }, now, true), due, status);
    }
  });

  it('a node begins nothing anew that a person has stopped, before the object is another', () => {
    for (const status of ['CANCELLED', 'TERMINATED']) {
      assert.equal(isStopped(object(2), { running: false, status }), true);
      assert.equal(isStopped(object(1), { running: false, status }), false);
    }
    for (const status of ['COMPLETED', 'FAILED', 'RUNNING'])
      assert.equal(isStopped(object(2), { running: status === 'RUNNING', status }), false);
    assert.equal(isStopped(object(2), undefined), false);
  });

  it('of two runs goes by the one that runs, else by the one that ended last', () => {
    const old = { running: false, status: 'COMPLETED', closedAt: hoursAgo(8) };
    const late = { running: false, status: 'CANCELLED', closedAt: hoursAgo(1) };
    const runs = { running: true, status: 'RUNNING' };
    assert.equal(latestOf([old, late]), late);
    assert.equal(latestOf([late, old]), late);
    assert.equal(latestOf([late, runs, old]), runs);
    assert.equal(latestOf([]), undefined);
  });

  it('compares the nodes of the status with those that its placement chooses now', () => {
    const node = (name: string, labels = {}): V1Node => ({ metadata: { name, labels } });
    const of = (...names: string[]): WatchedProvisioner => ({
      metadata: { name: 'a', uid: 'u' },
      spec: { workload: { nodeSelector: { disk: 'ssd' } } },
      status: { nodes: names.map((name) => ({ name, phase: 'Ready', message: '' })) },
    });
    const ssd = node('n1', { disk: 'ssd' });
    assert.equal(isMisplaced(of('n1'), [ssd, node('n2')]), false);
    assert.equal(isMisplaced(of('n1'), [ssd, node('n2', { disk: 'ssd' })]), true);
    assert.equal(isMisplaced(of('n1', 'n2'), [ssd]), true);
    assert.equal(isMisplaced(of(), [ssd]), true);
    assert.equal(isMisplaced(of(), [node('n2')]), false);
  });
});

describe('what of a node matters to a preparation', () => {
  const node: V1Node = {
    metadata: { uid: 'u', labels: { a: '1' }, resourceVersion: '1' },
    spec: { taints: [{ key: 'k', effect: 'NoSchedule' }] },
    status: { conditions: [{ type: 'Ready', status: 'True', lastHeartbeatTime: new Date(1) }] },
  };
  const same: V1Node = {
    ...node,
    metadata: { ...node.metadata, resourceVersion: '2' },
    status: { conditions: [{ type: 'Ready', status: 'True', lastHeartbeatTime: new Date(2) }] },
  };
  it('is no heartbeat', () => assert.equal(nodeFingerprint(node), nodeFingerprint(same)));
  it('is that it is Ready, its labels, its taints, and whether it is the same', () => {
    for (const other of [
      { ...node, status: { conditions: [{ type: 'Ready', status: 'Unknown' }] } },
      { ...node, metadata: { ...node.metadata, labels: { a: '2' } } },
      { ...node, metadata: { ...node.metadata, uid: 'v' } },
      { ...node, spec: {} },
      undefined,
    ])
      assert.notEqual(nodeFingerprint(other), nodeFingerprint(node));
  });
});
