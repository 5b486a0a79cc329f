import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import {
  WorkflowIdConflictPolicy,
  WorkflowIdReusePolicy,
  type WorkflowExecutionDescription,
} from '@temporalio/client';
import { MERGE_PATCH } from '../../activities/kubernetes/client.js';
import { killProcess, startProcess } from '../../local/index.js';
import type { DataVolume } from '../../activities/kubernetes/objects.js';
import type { Control } from '../../workers/control/index.js';
import { SEARCH_ATTRIBUTES } from '../../workflows/messages.js';
import { CONTROL_QUEUE, SWEEP_SCHEDULE } from '../../workflows/task-queues.js';
import { eventually, useControlStack } from './support.js';

/** What no lifecycle fills: a populator of somebody else's. */
const UNSERVED = {
  spec: {
    source: undefined,
    storage: {
      resources: { requests: { storage: '64Mi' } },
      dataSourceRef: { apiGroup: 'images.example', kind: 'Image', name: 'disk' },
    },
  },
};

describe('the watch, with real Kubernetes and Temporal', function () {
  this.timeout(120_000);
  const stack = useControlStack();

  const idOf = ({ metadata: { namespace, name, uid } }: DataVolume): string =>
    `datavolume/${namespace}/${name}/${uid}`;

  const describeRun = async (id: string): Promise<WorkflowExecutionDescription | undefined> =>
    await stack.temporal.workflow
      .getHandle(id)
      .describe()
      .catch(() => undefined);

  const awaitRun = async (id: string): Promise<WorkflowExecutionDescription> =>
    await eventually(`run ${id}`, () => describeRun(id));

  const awaitCancel = async (id: string): Promise<void> =>
    void (await eventually(`cancellation of ${id}`, async () => {
      return (await describeRun(id))?.raw.workflowExtendedInfo?.cancelRequested;
    }));

  /** Signals of a run, by name. */
  const signalsOf = async (id: string): Promise<readonly string[]> => {
    const { events } = await stack.temporal.workflow.getHandle(id).fetchHistory();
    return (events ?? []).flatMap(({ workflowExecutionSignaledEventAttributes: sent }) =>
      sent ? [sent.signalName ?? ''] : [],
    );
  };

  /** A run as a person starts it from Temporal, naming this DataVolume; with a uid in place of the one without, which has read it. */
  const startMarked = async (workflowId: string, names: { name: string; uid?: string }): Promise<void> => {
    await stack.temporal.workflow.start('importDataVolume', {
      workflowId,
      taskQueue: CONTROL_QUEUE,
      args: [{}],
      workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE,
      workflowIdConflictPolicy: WorkflowIdConflictPolicy.TERMINATE_EXISTING,
      typedSearchAttributes: [
        { key: SEARCH_ATTRIBUTES.namespace, value: stack.namespace },
        { key: SEARCH_ATTRIBUTES.name, value: names.name },
        ...(names.uid ? [{ key: SEARCH_ATTRIBUTES.uid, value: names.uid }] : []),
      ],
    });
  };

  const settle = (): Promise<void> => pause(1500);

  let replicas: readonly Control[] = [];
  const startWatching = async (): Promise<void> => {
    const one = (): Promise<Control> => stack.startWatch({ relistMs: 5_000 });
    replicas = await Promise.all([one(), one()]);
  };
  const stopWatching = async (): Promise<void> =>
    void (await Promise.all(replicas.map((replica) => replica.stop())));

  before('two replicas', startWatching);

  it('starts one run for a DataVolume, with its identity and no credential', async () => {
    const made = await stack.create('one');
    const found = await awaitRun(idOf(made));
    assert.equal(found.type, 'importDataVolume');
    assert.equal(found.taskQueue, CONTROL_QUEUE);
    assert.equal(found.typedSearchAttributes.get(SEARCH_ATTRIBUTES.namespace), stack.namespace);
    assert.equal(found.typedSearchAttributes.get(SEARCH_ATTRIBUTES.name), 'one');
    assert.equal(found.typedSearchAttributes.get(SEARCH_ATTRIBUTES.uid), made.metadata.uid);
    assert.equal(found.typedSearchAttributes.get(SEARCH_ATTRIBUTES.source), 'http');
    assert.equal(
      await found.staticSummary(),
      `Import ${stack.namespace}/one from http://127.0.0.1:1/disk.img`,
    );
    const history = await stack.temporal.workflow.getHandle(idOf(made)).fetchHistory();
    const payload = history.events?.[0]?.workflowExecutionStartedEventAttributes?.input?.payloads?.[0]?.data;
    assert.deepEqual(JSON.parse(Buffer.from(payload ?? []).toString()), {
      namespace: stack.namespace,
      name: 'one',
      uid: made.metadata.uid,
    });
    // Over several lists by both replicas it stays the same run.
    await pause(6_000);
    assert.equal((await awaitRun(idOf(made))).runId, found.runId);
  });

  it('leaves a terminal DataVolume alone', async () => {
    const made = await stack.create('done', UNSERVED);
    await stack.setStatus('done', { phase: 'Succeeded' });
    await settle();
    assert.equal(await describeRun(idOf(made)), undefined);
  });

  it('says once why a DataVolume is not served yet, and leaves its phase empty', async () => {
    const made = await stack.create('unserved', UNSERVED);
    await eventually('an event', async () => (await stack.events(made.metadata.uid)).length > 0);
    await pause(6_000);
    assert.deepEqual(await stack.events(made.metadata.uid), ['LifecycleNotServed']);
    assert.equal((await stack.find('unserved'))?.status?.phase ?? '', '');
    assert.equal(await describeRun(idOf(made)), undefined);
  });

  it('cancels the run of a DataVolume that is deleted', async () => {
    const made = await stack.create('deleted');
    await awaitRun(idOf(made));
    await stack.remove('deleted');
    await awaitCancel(idOf(made));
  });

  it('serves a namesake that is made at once after a deletion', async () => {
    const first = await stack.create('again');
    await awaitRun(idOf(first));
    await stack.remove('again');
    const second = await stack.create('again');
    await Promise.all([awaitCancel(idOf(first)), awaitRun(idOf(second))]);
    await settle();
    assert.equal((await awaitRun(idOf(second))).raw.workflowExtendedInfo?.cancelRequested ?? false, false);
  });

  it('fails a DataVolume whose run was terminated, and does not start it again', async () => {
    const made = await stack.create('terminated');
    const { runId } = await awaitRun(idOf(made));
    await stack.setStatus('terminated', { phase: 'ImportInProgress' });
    await stack.temporal.workflow.getHandle(idOf(made)).terminate('by an operator');
    const failed = await eventually('phase Failed', async () => {
      const found = await stack.find('terminated');
      return found?.status?.phase === 'Failed' && found;
    });
    const running = failed.status?.conditions?.find(({ type }) => type === 'Running');
    assert.equal(running?.reason, 'Terminated');
    await eventually('an event', async () => (await stack.events(made.metadata.uid)).includes('Terminated'));
    await settle();
    assert.equal((await awaitRun(idOf(made))).runId, runId);
  });

  it('does not overwrite the phase of a run that ended by itself', async () => {
    const made = await stack.create('ended');
    await awaitRun(idOf(made));
    await stack.setStatus('ended', { phase: 'Succeeded' });
    await stack.temporal.workflow.getHandle(idOf(made)).terminate();
    await pause(6_000);
    assert.equal((await stack.find('ended'))?.status?.phase, 'Succeeded');
  });

  it('answers a retry with one new run for each value', async () => {
    const made = await stack.create('retried');
    const first = await awaitRun(idOf(made));
    await stack.temporal.workflow.getHandle(idOf(made)).terminate();
    await eventually('phase Failed', async () => (await stack.find('retried'))?.status?.phase === 'Failed');
    await stack.annotate('retried', { 'dvflow.io/retry': 'now' });
    const second = await eventually('a second run', async () => {
      const found = await describeRun(idOf(made));
      return found && found.runId !== first.runId && found;
    });
    const history = await stack.temporal.workflow.getHandle(idOf(made)).fetchHistory();
    const payload = history.events?.[0]?.workflowExecutionStartedEventAttributes?.input?.payloads?.[0]?.data;
    assert.equal((JSON.parse(Buffer.from(payload ?? []).toString()) as { retry?: string }).retry, 'now');
    await stack.annotate('retried', { 'dvflow.io/retried': 'now' });
    await stack.temporal.workflow.getHandle(idOf(made)).terminate();
    await pause(6_000);
    assert.equal((await awaitRun(idOf(made))).runId, second.runId);
  });

  it('adopts the claim that is restored under a finished DataVolume: Pending meanwhile, and no run is missed', async () => {
    const made = await stack.create('restored');
    const { runId } = await awaitRun(idOf(made));
    const lastTransitionTime = '2030-01-01T00:00:00Z';
    const times = { lastTransitionTime, lastHeartbeatTime: lastTransitionTime, message: '' };
    const conditions = [
      { type: 'Bound', status: 'True', reason: 'Bound', ...times },
      { type: 'Running', status: 'False', reason: 'Completed', ...times },
      { type: 'Ready', status: 'True', reason: '', ...times },
    ];
    const told = async (): Promise<string> => {
      const { phase, conditions: said = [] } = (await stack.find('restored'))?.status ?? {};
      return [phase, ...said.map(({ type, status, reason }) => `${type} ${status} ${reason}`)]
        .sort()
        .join(', ');
    };
    const awaitTold = async (wanted: RegExp): Promise<void> =>
      void (await eventually(`${wanted.source}`, async () => wanted.test(await told())));
    await stack.setStatus('restored', { phase: 'Succeeded', conditions });
    await stack.temporal.workflow.getHandle(idOf(made)).terminate('the disk is complete');
    await awaitTold(/^Bound False NotFound, Ready False NotFound, Running False Completed, Succeeded$/);
    await stack.annotate('restored', { 'cdi.kubevirt.io/storage.prePopulated': 'restored' });
    await awaitTold(/^Bound False NotFound, Pending, Ready False NotFound, Running False Completed$/);
    // over a list by both replicas
    await pause(6_000);
    assert.match(await told(), /Pending/);
    assert.equal((await awaitRun(idOf(made))).runId, runId);

    const { namespace } = stack;
    const spec = {
      accessModes: ['ReadWriteOnce'],
      storageClassName: 'restored',
      resources: { requests: { storage: '64Mi' } },
    };
    const populated = { 'cdi.kubevirt.io/storage.populatedFor': 'restored' };
    const claim = await stack.core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: { metadata: { name: 'restored', annotations: populated }, spec },
    });
    await awaitTold(/^Bound False Pending, Ready False Pending, Running False Completed, Succeeded$/);
    await stack.core.createPersistentVolume({
      body: {
        metadata: { name: 'restored' },
        spec: {
          accessModes: spec.accessModes,
          storageClassName: 'restored',
          capacity: { storage: '64Mi' },
          csi: { driver: 'san.example', volumeHandle: 'restored' },
        },
      },
    });
    await awaitTold(/^Bound True Bound, Ready True , Running False Completed, Succeeded$/);
    const readClaim = async () =>
      await stack.core
        .readNamespacedPersistentVolumeClaim({ namespace, name: 'restored' })
        .catch(() => undefined);
    const owners = (await readClaim())?.metadata?.ownerReferences;
    assert.deepEqual(
      owners?.map(({ uid, controller }) => [uid, controller]),
      [[made.metadata.uid, true]],
    );
    await stack.remove('restored');
    await eventually('the claim goes with its DataVolume', async () => {
      return (await readClaim())?.metadata?.uid !== claim.metadata?.uid;
    });
    await stack.core.deletePersistentVolume({ name: 'restored' });
  });

  it('waits with a retry until the run before has cleaned up', async () => {
    const made = await stack.create('cleaning');
    const first = await awaitRun(idOf(made));
    await stack.setStatus('cleaning', { phase: 'Failed' });
    await stack.annotate('cleaning', { 'dvflow.io/retry': 'now' });
    await settle();
    assert.equal((await awaitRun(idOf(made))).runId, first.runId);
    await stack.temporal.workflow.getHandle(idOf(made)).terminate();
    await eventually('a second run', async () => (await describeRun(idOf(made)))?.runId !== first.runId);
  });

  it('waits so for the retry before, also where another workflow made the DataVolume', async () => {
    await startMarked('made-it', { name: 'cleaning-again' });
    const made = await stack.create('cleaning-again', {
      annotations: { 'dvflow.io/workflow-id': 'made-it' },
    });
    await startMarked('made-it', { name: 'cleaning-again', uid: made.metadata.uid });
    await stack.setStatus('cleaning-again', { phase: 'Failed' });
    await stack.temporal.workflow.getHandle('made-it').terminate();
    await stack.annotate('cleaning-again', { 'dvflow.io/retry': 'one', 'dvflow.io/retried': 'one' });
    // as the retry before is when its phase is written and its clean-up lasts
    await startMarked(idOf(made), { name: 'cleaning-again', uid: made.metadata.uid });
    const first = await awaitRun(idOf(made));
    await stack.annotate('cleaning-again', { 'dvflow.io/retry': 'two' });
    await pause(4_000);
    assert.equal((await awaitRun(idOf(made))).runId, first.runId);
    await stack.temporal.workflow.getHandle(idOf(made)).terminate();
    await eventually('another run', async () => (await describeRun(idOf(made)))?.runId !== first.runId);
  });

  it('believes the mark of a run that names the DataVolume, while it runs', async () => {
    await startMarked('from-temporal', { name: 'marked' });
    const made = await stack.create('marked', { annotations: { 'dvflow.io/workflow-id': 'from-temporal' } });
    await settle();
    assert.equal(await describeRun(idOf(made)), undefined);
    await startMarked('from-temporal', { name: 'marked', uid: made.metadata.uid });
    await stack.remove('marked');
    await awaitCancel('from-temporal');
  });

  it('does not take a run of the maker that was started once more for the retry', async () => {
    await startMarked('made-before', { name: 'started-again' });
    const mark = { 'dvflow.io/workflow-id': 'made-before' };
    const made = await stack.create('started-again', { annotations: mark });
    await settle();
    assert.equal(await describeRun(idOf(made)), undefined);
    await stack.annotate('started-again', { 'dvflow.io/retry': 'one', 'dvflow.io/retried': 'one' });
    await awaitRun(idOf(made));
  });

  it('cancels a run under the id of a DataVolume that is deleted only when it has read that uid', async () => {
    const mark = { 'dvflow.io/workflow-id': 'used-again' };
    await startMarked('used-again', { name: 'used-again' });
    const made = await stack.create('used-again', { annotations: mark });
    await settle();
    await stack.remove('used-again');
    await pause(4_000);
    const waits = await awaitRun('used-again');
    assert.equal(waits.raw.workflowExtendedInfo?.cancelRequested ?? false, false);
    await startMarked('used-again', { name: 'used-again', uid: made.metadata.uid });
    await awaitCancel('used-again');
  });

  it('makes up for a marked run that was terminated while nobody watched', async () => {
    await stopWatching();
    const made = await stack.create('marked-ended', {
      annotations: { 'dvflow.io/workflow-id': 'ends-early' },
    });
    await startMarked('ends-early', { name: 'marked-ended', uid: made.metadata.uid });
    await stack.temporal.workflow.getHandle('ends-early').terminate();
    await settle();
    // Stopped is stopped: nobody has written anything.
    assert.equal((await stack.find('marked-ended'))?.status, undefined);
    await startWatching();
    await eventually(
      'phase Failed',
      async () => (await stack.find('marked-ended'))?.status?.phase === 'Failed',
    );
    assert.equal(await describeRun(idOf(made)), undefined);
  });

  it('does not believe a forged mark', async () => {
    await startMarked('other-name', { name: 'somebody-else' });
    await startMarked('other-uid', { name: 'forged-uid', uid: 'another-uid' });
    for (const [name, mark] of [
      ['forged-name', 'other-name'],
      ['forged-uid', 'other-uid'],
      ['forged-missing', 'no-such-workflow'],
    ] as const) {
      const made = await stack.create(name, { annotations: { 'dvflow.io/workflow-id': mark } });
      await awaitRun(idOf(made));
      await stack.remove(name);
      await awaitCancel(idOf(made));
    }
    // The one that names a DataVolume which does not exist is an orphan; the other one names no uid and is nobody's.
    await awaitCancel('other-uid');
    const other = await awaitRun('other-name');
    assert.equal(other.raw.workflowExtendedInfo?.cancelRequested ?? false, false);
  });

  it('cancels at a list every running lifecycle whose DataVolume does not exist', async () => {
    await startMarked('orphan', { name: 'never-made', uid: 'no-such-uid' });
    const made = await stack.create('alive');
    await awaitCancel('orphan');
    assert.equal((await awaitRun(idOf(made))).raw.workflowExtendedInfo?.cancelRequested ?? false, false);
  });

  it('wakes the run when the scheduler chooses a node for its claim, and when annotations change', async () => {
    const made = await stack.create('waiting');
    await awaitRun(idOf(made));
    await settle();
    const before = (await signalsOf(idOf(made))).length;
    const { namespace, core } = stack;
    await core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: {
        metadata: { name: 'waiting' },
        spec: {
          accessModes: ['ReadWriteOnce'],
          storageClassName: 'hostpath-provisioner',
          resources: { requests: { storage: '64Mi' } },
        },
      },
    });
    await eventually('a signal', async () => (await signalsOf(idOf(made))).length > before);
    await settle();
    const between = (await signalsOf(idOf(made))).length;
    await stack.annotate('waiting', { 'kubevirt.io/provisionOnNode': 'node-1' });
    await eventually('another signal', async () => (await signalsOf(idOf(made))).length > between);
    assert.deepEqual([...new Set(await signalsOf(idOf(made)))], ['wake']);
  });

  it('wakes a run that moves bytes for a deadline that is changed, and for nothing else', async () => {
    const made = await stack.create('moving');
    await awaitRun(idOf(made));
    await stack.setStatus('moving', { phase: 'ImportInProgress' });
    await settle();
    const before = (await signalsOf(idOf(made))).length;
    await stack.annotate('moving', { 'kubevirt.io/provisionOnNode': 'node-1' });
    await settle();
    assert.equal((await signalsOf(idOf(made))).length, before);
    await stack.annotate('moving', { 'dvflow.io/deadline': '2h' });
    await eventually('a signal', async () => (await signalsOf(idOf(made))).length > before);
  });

  it('reclaims a released volume of ours, and no other', async () => {
    const foreign = { ...OURS, hostPathProvisionerIdentity: 'kubevirt.io/hostpath-provisioner' };
    const make = async (...args: Parameters<typeof volumeOf>): Promise<string> => {
      const made = await stack.core.createPersistentVolume({ body: volumeOf(...args) });
      return `reclaim/${made.metadata?.uid}`;
    };
    const [mine, kept, theirs] = [
      await make('mine', OURS),
      await make('kept', OURS, 'Retain'),
      await make('theirs', foreign),
    ];
    assert.equal((await awaitRun(mine)).type, 'reclaimVolume');
    await settle();
    assert.equal(await describeRun(kept), undefined);
    assert.equal(await describeRun(theirs), undefined);
  });

  it('holds a volume of an earlier release until it is reclaimed, and lets go of one that is retained', async () => {
    const name = 'held';
    const made = await stack.core.createPersistentVolume({ body: volumeOf(name, OURS) });
    const finalizers = async (): Promise<readonly string[]> =>
      (await stack.core.readPersistentVolume({ name })).metadata?.finalizers ?? [];
    await eventually('the finalizer', async () => (await finalizers()).includes('dvflow.io/reclaim'));
    const id = `reclaim/${made.metadata?.uid}`;
    await awaitRun(id);
    await settle();
    const before = (await signalsOf(id)).length;
    await stack.core.deletePersistentVolume({ name });
    await eventually('a signal', async () => (await signalsOf(id)).length > before);
    // Kubernetes' own protection goes at once
    await eventually('ours alone', async () => (await finalizers()).join() === 'dvflow.io/reclaim');
    const retain = { spec: { persistentVolumeReclaimPolicy: 'Retain' } };
    await stack.core.patchPersistentVolume({ name, body: retain }, MERGE_PATCH);
    await eventually('the end of the volume', async () => {
      const { items } = await stack.core.listPersistentVolume();
      return !items.some(({ metadata }) => metadata?.name === name);
    });
  });

  it('keeps one Schedule for the sweeper', async () => {
    const found = await stack.temporal.schedule.getHandle(SWEEP_SCHEDULE).describe();
    assert.equal(found.policies.overlap, 'SKIP');
    assert.deepEqual(
      found.spec.intervals?.map(({ every }) => every),
      [600_000],
    );
    assert.equal(found.action.type === 'startWorkflow' && found.action.workflowType, 'sweep');
  });

  it('goes on after kill -9 of the API server', async () => {
    assert.ok(killProcess(stack.info, 'kube-apiserver'));
    await pause(2_000);
    await startProcess(stack.info, 'kube-apiserver');
    const made = await eventually('a DataVolume', () => stack.create('after-apiserver'));
    await awaitRun(idOf(made));
    await stack.remove('after-apiserver');
    await awaitCancel(idOf(made));
  });

  it('goes on after kill -9 of Temporal, and makes up for what it missed', async () => {
    assert.ok(killProcess(stack.info, 'temporal'));
    const made = await stack.create('without-temporal');
    await pause(3_000);
    await startProcess(stack.info, 'temporal');
    await eventually(`run ${idOf(made)}`, () => describeRun(idOf(made)), 90_000);
  });
});

const OURS = {
  'pv.kubernetes.io/provisioned-by': 'kubevirt.io/hostpath-provisioner',
  hostPathProvisionerIdentity: 'dvflow',
};

function volumeOf(name: string, annotations: Record<string, string>, policy = 'Delete'): object {
  return {
    metadata: { name, annotations },
    spec: {
      accessModes: ['ReadWriteOnce'],
      capacity: { storage: '64Mi' },
      persistentVolumeReclaimPolicy: policy,
      storageClassName: 'hostpath-provisioner',
      hostPath: { path: `/nowhere/${name}` },
      // A claim that does not exist, with a uid: Released at once.
      claimRef: {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        namespace: 'default',
        name,
        uid: `gone-${name}`,
      },
    },
  };
}
