import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { StorageV1Api, KubeConfig } from '@kubernetes/client-node';
import { DefaultLogger, NativeConnection, Worker } from '@temporalio/worker';
import { permanentFailure } from '../../activities/failures.js';
import type { DataVolumeEvent } from '../../activities/types.js';
import { bundleWorkflows } from '../../workers/workflow-code.js';
import { CAPACITY_WORKFLOW, CONTROL_QUEUE, provisionWorkflowId } from '../../workflows/task-queues.js';
import { eventually, useControlStack } from './support.js';

describe('the watch over plain claims', function () {
  this.timeout(60_000);
  const stack = useControlStack();

  before(async () => {
    const admin = new KubeConfig();
    admin.loadFromFile(stack.info.kubeconfig);
    await admin.makeApiClient(StorageV1Api).createStorageClass({
      body: {
        metadata: { name: 'plain' },
        provisioner: 'kubevirt.io.hostpath-provisioner',
        volumeBindingMode: 'Immediate',
      },
    });
    await Promise.all([stack.startWatch(), stack.startWatch()]);
  });

  async function create(name: string, annotations: Record<string, string> = {}) {
    const { namespace } = stack;
    const made = await stack.core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: {
        metadata: { name, annotations },
        spec: {
          accessModes: ['ReadWriteOnce'],
          storageClassName: 'plain',
          resources: { requests: { storage: '8Mi' } },
        },
      },
    });
    return provisionWorkflowId({ namespace, name, uid: made.metadata!.uid! });
  }

  const describeRun = async (id: string) => await stack.temporal.workflow.getHandle(id).describe();
  const awaitRun = async (id: string, isIt: (runId: string, signals: number) => boolean = () => true) =>
    await eventually(`a run of ${id}`, async () => {
      const found = await describeRun(id).catch(() => undefined);
      if (!found) return undefined;
      const { events = [] } = await stack.temporal.workflow.getHandle(id, found.runId).fetchHistory();
      const signals = (events ?? []).filter((event) => event.workflowExecutionSignaledEventAttributes).length;
      return isIt(found.runId, signals) ? found : undefined;
    });

  it('starts one run for a claim, however many replicas see it', async () => {
    const id = await create('one');
    const first = await awaitRun(id);
    assert.equal(first.type, 'provisionVolume');
    await awaitRun(await create('next'));
    assert.equal((await describeRun(id)).runId, first.runId);
  });

  it('wakes the run of a claim that is deleted', async () => {
    const id = await create('deleted');
    await awaitRun(id);
    await stack.core.deleteNamespacedPersistentVolumeClaim({ namespace: stack.namespace, name: 'deleted' });
    await eventually('the claim is gone', async () =>
      stack.core
        .readNamespacedPersistentVolumeClaim({ namespace: stack.namespace, name: 'deleted' })
        .then(() => false)
        .catch(() => true),
    );
    await awaitRun(id, (_, signals) => signals > 0);
  });

  it('wakes runs that wait at each list', async () => {
    const id = await create('waits');
    const { runId } = await awaitRun(id);
    await stack.startWatch({ relistMs: 1_500 });
    assert.equal((await awaitRun(id, (_, signals) => signals >= 3)).runId, runId);
  });

  it('starts another run after one that was terminated, as long as the claim asks', async () => {
    const id = await create('terminated');
    const { runId } = await awaitRun(id);
    await stack.temporal.workflow.getHandle(id).terminate('by hand');
    const next = await awaitRun(id, (newest) => newest !== runId);
    assert.equal(next.status.name, 'RUNNING');
  });

  it('starts none for a claim that waits for data', async () => {
    const waiting = await create('waiting', { 'k8s.io/CloneRequest': 'team-a/source' });
    await awaitRun(await create('beside'));
    await assert.rejects(describeRun(waiting));
  });

  it('lets the room be published for a class whose room the scheduler reads', async () => {
    assert.equal((await awaitRun(CAPACITY_WORKFLOW)).type, 'publishCapacity');
  });

  it('starts none again at each list for a claim whose run has just failed for good', async function () {
    this.timeout(180_000);
    const workflowsPath = fileURLToPath(new URL('../../workflows/index.ts', import.meta.url));
    const connection = await NativeConnection.connect({ address: stack.info.temporalAddress });
    const events: DataVolumeEvent[] = [];
    const worker = await Worker.create({
      connection,
      taskQueue: CONTROL_QUEUE,
      workflowBundle: await bundleWorkflows({ workflowsPath, logger: new DefaultLogger('ERROR') }),
      activities: {
        planVolume: async () => {
          throw permanentFailure('NotAuthorized', 'the role may not read classes');
        },
        recordClaimEvent: async ({ event }: { event: DataVolumeEvent }) => void events.push(event),
      },
    });
    await worker.runUntil(async () => {
      const id = await create('failing');
      await stack.startWatch({ relistMs: 1_000 });
      await eventually('the run has failed', async () => (await awaitRun(id)).status.name === 'FAILED');
      // each replica may ask once more, when it comes to it: it cannot know that somebody has
      let { runId } = await describeRun(id);
      const looked = async (): Promise<boolean> => {
        await pause(6_000);
        const newest = (await describeRun(id)).runId;
        const isLast = newest === runId;
        runId = newest;
        return isLast;
      };
      await eventually('no run for six lists', looked, 60_000);
    });
    await connection.close();
    assert.deepEqual(events[0], {
      type: 'Warning',
      reason: 'ProvisioningFailed',
      message: 'failed to provision volume: the role may not read classes',
    });
  });
});
