import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { WorkflowFailedError } from '@temporalio/client';
import type { UploadRequest } from '../../activities/types/upload.js';
import { openUploadUpdate } from '../../workflows/messages.js';
import { CONTROL_QUEUE, nodeQueue, transferQueue } from '../../workflows/task-queues.js';
import { useWorkers } from '../client/workers.js';

describe('the lifecycle of an upload, with other activities', function () {
  this.timeout(60_000);
  /** Questions to the node where a client may send: at the same time now, and the most. */
  const asking = { now: 0, most: 0, all: 0 };

  /** Events of DataVolumes, and that one waits. */
  const said: string[] = [];

  const server = useWorkers({
    workflows: new URL('../../workflows/upload-data-volume.ts', import.meta.url),
    queues: () => ({ [CONTROL_QUEUE]: kubernetes, [nodeQueue('n1')]: node, [transferQueue('n1')]: node }),
  });

  const kubernetes = {
    openDataVolume: async ({ start }: { start: object }) => ({
      ...start,
      source: 'upload',
      displayUrl: '',
      contentType: 'kubevirt',
      phase: '',
      deadlineMs: 3_600_000,
    }),
    recordStatus: async ({ event }: { event?: { reason: string; message: string } }) => {
      if (event) said.push(`${event.reason}: ${event.message}`);
      return { exists: true };
    },
    reserveVolume: async () => {
      said.push('waits');
      return { waitFor: 'its node is not in the cluster' };
    },
    deleteClaim: async () => undefined,
    withdrawVolume: async () => ({ waiting: 'PersistentVolume pv1 cannot be emptied' }),
    planTarget: async ({ dataVolume: { name } }: { dataVolume: { name: string } }) => ({
      staticVolume: name === 'static',
      claim: 'create',
      storageClass: 'hostpath',
      provisioner: 'kubevirt.io/hostpath-provisioner',
      bindingMode: 'WaitForFirstConsumer',
      reclaimPolicy: 'Delete',
      waitForConsumer: false,
      accessModes: ['ReadWriteOnce'],
      volumeMode: 'Filesystem',
      requestBytes: 1 << 20,
      usableBytes: 1 << 20,
      overhead: 0,
      api: 'storage',
      pool: { name: 'p', path: '/pool', useNamingPrefix: false },
      preallocation: false,
    }),
    ensureClaim: async ({ dataVolume }: { dataVolume: object }) => dataVolume,
    listCandidates: async () => ({
      candidates: [{ node: 'n1', hostname: 'n1', foreignBytes: 0 }],
      chosenBy: 'any',
    }),
    confirmUploadTarget: async () => ({ asks: true }),
  };
  const node = {
    observePool: async () => ({
      node: 'n1',
      roomBytes: 1 << 30,
      totalBytes: 1 << 30,
      promisedBytes: 0,
      availableBytes: 1 << 30,
    }),
    reserveDirectory: async ({ dataVolume }: { dataVolume: object }) => ({
      node: 'n1',
      hostname: 'n1',
      pool: '/pool',
      directory: 'd',
      dataVolume,
      promisedBytes: 1 << 20,
    }),
    locateUpload: async ({ request: { session } }: { request: UploadRequest }) => {
      asking.all += 1;
      asking.most = Math.max(asking.most, (asking.now += 1));
      await pause(300);
      asking.now -= 1;
      return { url: `https://n1/upload/${session}`, offset: 0 };
    },
    receiveUpload: async () => {
      await pause(5_000);
      return { outcome: 'broken', type: 'SourceUnavailable', message: 'the client vanished' };
    },
  };

  it('ends when it is cancelled, and leaves its volume to the sweeper where the node of that has been deleted', async () => {
    const handle = await server().client.workflow.start('uploadDataVolume', {
      taskQueue: CONTROL_QUEUE,
      workflowId: 'static',
      args: [{ namespace: 'a', name: 'static', uid: 'static' }],
    });
    for (let left = 100; left > 0 && !said.includes('waits'); left--) await pause(100);
    await handle.cancel();
    await assert.rejects(handle.result(), WorkflowFailedError);
    const deferred = said.filter((event) => event.startsWith('CleanupDeferred'));
    assert.deepEqual(deferred, [
      'CleanupDeferred: could not give the volume back: PersistentVolume pv1 cannot be emptied; the sweeper will',
    ]);
  });

  it('lets clients who wait for another one in one after another', async () => {
    const handle = await server().client.workflow.start('uploadDataVolume', {
      taskQueue: CONTROL_QUEUE,
      workflowId: 'desk',
      args: [{ namespace: 'a', name: 'desk', uid: 'desk' }],
    });
    const answers = await Promise.allSettled(
      ['one', 'two', 'three'].map((session) =>
        handle.executeUpdate(openUploadUpdate, { args: [{ session, contentType: 'kubevirt' }] }),
      ),
    );
    await handle.terminate();
    assert.equal(answers.filter(({ status }) => status === 'fulfilled').length, 1);
    assert.deepEqual(asking, { now: 0, most: 1, all: 3 });
  });
});
