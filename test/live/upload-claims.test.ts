import assert from 'node:assert/strict';
import { MERGE_PATCH } from '../../activities/kubernetes/client.js';
import { cancel } from '../../client/index.js';
import { uploadClaimWorkflowId } from '../../workflows/task-queues.js';
import { useStack } from '../support/stack.js';
import { makeImages, type Images } from './images.js';
import { recordHistory } from './record.js';
import { createUploads, type Uploads } from './uploads.js';
import { assertSameDisk, createWorld, eventually, type World } from './world.js';

const READY = 'cdi.kubevirt.io/storage.pod.ready';
const PHASE = 'cdi.kubevirt.io/storage.pod.phase';
const TARGET = 'cdi.kubevirt.io/storage.upload.target';

describe('upload into a claim without a DataVolume', function () {
  this.timeout(240_000);
  const stack = useStack();
  let world: World;
  let uploads: Uploads;
  let images: Images;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    uploads = createUploads(stack, world);
    images = await makeImages({ sizeMiB: 48, dataMiB: 32 });
    namespace = await world.createNamespace('upload-claims');
  });
  after(() => images.remove());

  /** As `virtctl image-upload pvc` makes it; returns its workflow. */
  async function create(
    name: string,
    annotations: Record<string, string> = { [TARGET]: '' },
    storage = '64Mi',
  ): Promise<string> {
    const made = await world.core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: {
        metadata: {
          name,
          labels: { 'cdi.kubevirt.io/applyStorageProfile': 'true' },
          annotations: {
            'cdi.kubevirt.io/storage.contentType': 'kubevirt',
            'cdi.kubevirt.io/storage.bind.immediate.requested': '',
            ...annotations,
          },
        },
        spec: {
          accessModes: ['ReadWriteOnce'],
          storageClassName: 'hostpath-provisioner',
          resources: { requests: { storage } },
        },
      },
    });
    return uploadClaimWorkflowId({ namespace, name, uid: made.metadata?.uid ?? '' });
  }
  async function annotate(name: string, annotations: Record<string, string>): Promise<void> {
    await world.core.patchNamespacedPersistentVolumeClaim(
      { namespace, name, body: { metadata: { annotations } } },
      MERGE_PATCH,
    );
  }
  async function awaitEnd(workflowId: string): Promise<void> {
    const handle = stack.temporal.workflow.getHandle(workflowId);
    await eventually('the end of its run', 30_000, async () =>
      (await handle.describe()).status.name === 'RUNNING' ? undefined : true,
    );
  }
  async function awaitAnnotation(name: string, key: string, value: string): Promise<void> {
    await world.awaitAnnotation(namespace, name, key, value);
  }

  it('offers the disk to a Pending claim when it is complete, and tells virtctl by annotations', async () => {
    const workflowId = await create('pending');
    await awaitAnnotation('pending', READY, 'true');
    const waiting = await world.claim(namespace, 'pending');
    assert.equal(waiting?.status?.phase, 'Pending');
    assert.equal(waiting?.metadata?.annotations?.[PHASE], 'Running');
    const answer = await uploads.sendFile(workflowId, await images.as('qcow2'));
    assert.equal(answer.status, 200, answer.text);
    await awaitAnnotation('pending', PHASE, 'Succeeded');
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'pending'));
    await world.awaitEvent(namespace, 'pending', { reason: 'UploadSucceeded' });
    await recordHistory(stack, workflowId, 'uploadClaim.succeeded');
  });

  it('fills a Bound claim in place, where no pod uses it', async () => {
    const plain = await create('bound', { 'kubevirt.io/provisionOnNode': stack.info.node });
    assert.ok(plain);
    await eventually('Bound', 60_000, async () =>
      (await world.claim(namespace, 'bound'))?.status?.phase === 'Bound' ? true : undefined,
    );
    const claim = await world.claim(namespace, 'bound');
    const pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'user', namespace },
      spec: {
        nodeName: 'no-such-node',
        containers: [{ name: 'c', image: 'none', volumeMounts: [{ name: 'v', mountPath: '/v' }] }],
        volumes: [{ name: 'v', persistentVolumeClaim: { claimName: 'bound' } }],
      },
    };
    await stack.kubectl(['create', '-f', '-'], { input: JSON.stringify(pod) });
    await annotate('bound', { [TARGET]: '' });
    await world.awaitEvent(namespace, 'bound', {
      reason: 'UploadTargetInUse',
      message: /pod .*\/user using PersistentVolumeClaim bound/,
    });
    assert.notEqual((await world.claim(namespace, 'bound'))?.metadata?.annotations?.[READY], 'true');
    await stack.kubectl(['delete', 'pod', 'user', '-n', namespace, '--force', '--grace-period=0']);
    await awaitAnnotation('bound', READY, 'true');
    const workflowId = uploadClaimWorkflowId({ namespace, name: 'bound', uid: claim?.metadata?.uid ?? '' });
    const answer = await uploads.sendFile(workflowId, await images.as('raw.gz'));
    assert.equal(answer.status, 200, answer.text);
    await awaitAnnotation('bound', PHASE, 'Succeeded');
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'bound'));
    await recordHistory(stack, workflowId, 'uploadClaim.succeeded.by-run');
  });

  it('ends when its claim is deleted, and leaves nothing', async () => {
    const before = await world.inventory();
    const workflowId = await create('deleted');
    await awaitAnnotation('deleted', READY, 'true');
    await world.core.deleteNamespacedPersistentVolumeClaim({ namespace, name: 'deleted' });
    await world.assertUnchanged(before, 60_000);
    await awaitEnd(workflowId);
    await recordHistory(stack, workflowId, 'uploadClaim.cancelled');
  });

  it('cancelled while a Bound claim is filled: what was written is gone, and the claim stays', async () => {
    await create('kept', { 'kubevirt.io/provisionOnNode': stack.info.node });
    await eventually('Bound', 60_000, async () =>
      (await world.claim(namespace, 'kept'))?.status?.phase === 'Bound' ? true : undefined,
    );
    const before = await world.inventory();
    await annotate('kept', { [TARGET]: '' });
    await awaitAnnotation('kept', READY, 'true');
    const claim = await world.claim(namespace, 'kept');
    const workflowId = uploadClaimWorkflowId({ namespace, name: 'kept', uid: claim?.metadata?.uid ?? '' });
    const sending = await uploads.beginFile(workflowId, images.raw, { bytesPerSecond: 4 << 20 });
    await eventually('bytes', 60_000, async () => (sending.bytesSent() > 4 << 20 ? true : undefined));
    await cancel(stack.temporal, workflowId);
    await awaitAnnotation('kept', PHASE, 'Failed');
    await world.assertUnchanged(before);
    await recordHistory(stack, workflowId, 'uploadClaim.cancelled.bound');
  });

  it('waits for room, says both figures on the claim, and ends with it', async () => {
    const before = await world.inventory();
    const workflowId = await create('large', { [TARGET]: '' }, '4Pi');
    await world.awaitEvent(namespace, 'large', {
      reason: 'InsufficientCapacity',
      message: /asks for \d+ bytes.*\d+ on node/,
    });
    await world.core.deleteNamespacedPersistentVolumeClaim({ namespace, name: 'large' });
    await world.assertUnchanged(before, 60_000);
    await awaitEnd(workflowId);
    await recordHistory(stack, workflowId, 'uploadClaim.cancelled.no-room');
  });

  it('that can never be served says why on the claim', async () => {
    const workflowId = await create('bad', { [TARGET]: '', 'dvflow.io/deadline': 'soon' });
    await awaitAnnotation('bad', PHASE, 'Failed');
    await world.awaitEvent(namespace, 'bad', { reason: 'InvalidDataVolume', message: /soon/ });
    await recordHistory(stack, workflowId, 'uploadClaim.failed');
  });
});
