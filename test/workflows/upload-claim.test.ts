import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { WorkflowFailedError, type WorkflowHandle } from '@temporalio/client';
import { permanentFailure } from '../../activities/failures.js';
import type { UploadClaim, UploadControlActivities } from '../../activities/types/upload.js';
import type { ReservedVolume } from '../../activities/types/local-volumes.js';
import type { ClaimRef, TargetPlan } from '../../activities/types.js';
import { withdrawSignal } from '../../workflows/messages.js';
import { CONTROL_QUEUE, nodeQueue } from '../../workflows/task-queues.js';
import { useWorkers } from '../client/workers.js';

type Recorded = Parameters<UploadControlActivities['recordUploadClaim']>[0];

const TARGET: TargetPlan = {
  claim: 'create',
  storageClass: 'local',
  provisioner: '',
  staticVolume: true,
  bindingMode: 'Immediate',
  reclaimPolicy: 'Retain',
  waitForConsumer: false,
  accessModes: ['ReadWriteOnce'],
  volumeMode: 'Filesystem',
  requestBytes: 1,
  usableBytes: 1,
  overhead: 0,
  api: 'pvc',
  pool: { path: '', useNamingPrefix: false },
  preallocation: false,
};

const boundTo = (dataVolume: ClaimRef): ReservedVolume => ({
  node: 'n1',
  hostname: 'n1',
  dataVolume,
  volume: 'pv1',
  volumeUid: 'pv-1',
  storageClass: 'local',
  volumeMode: 'Filesystem',
  path: '/mnt/pv1',
  capacityBytes: 1,
});

describe('the lifecycle of an upload into a claim, with other activities', function () {
  this.timeout(60_000);
  /** What is said on each claim, by uid. */
  const recorded = new Map<string, Recorded[]>();

  /** Volumes that node n1 was asked to prepare and to empty, in this order. */
  const asked: ReservedVolume[] = [];

  const activities: UploadControlActivities = {
    confirmUploadTarget: async () => ({ asks: true }),
    async openUploadClaim({ claim }): Promise<UploadClaim> {
      const facts = {
        ...claim,
        source: 'upload',
        displayUrl: '',
        contentType: 'kubevirt',
        phase: '',
        deadlineMs: 3_600_000,
      } as const;
      if (claim.uid.startsWith('bound')) return { facts, target: TARGET, bound: boundTo(claim) };
      return { facts, waiting: { reason: 'Pending', message: 'not Bound yet', counts: false } };
    },
    async recordUploadClaim(input) {
      recorded.set(input.claim.uid, [...(recorded.get(input.claim.uid) ?? []), input]);
    },
  };

  const node = {
    prepareVolume: async ({ volume }: { volume: ReservedVolume }) => void asked.push(volume),
    async emptyReservedVolume({ volume }: { volume: ReservedVolume }) {
      asked.push(volume);
      if (volume.dataVolume.uid === 'bound-elsewhere')
        throw permanentFailure('ResourceExists', '/dev/loop7 is another device now');
    },
  };

  const server = useWorkers({
    workflows: new URL('../../workflows/upload-claim.ts', import.meta.url),
    queues: () => ({ [CONTROL_QUEUE]: { ...activities }, [nodeQueue('n1')]: node }),
  });

  /** A run that waits for its claim, as the claim says by an event. */
  async function startWaiting(uid: string): Promise<WorkflowHandle> {
    const handle = await server().client.workflow.start('uploadClaim', {
      workflowId: uid,
      taskQueue: CONTROL_QUEUE,
      args: [{ namespace: 'team-a', name: 'vm1', uid }],
    });
    for (let left = 100; left > 0 && !recorded.has(uid); left--) await pause(100);
    return handle;
  }

  async function lastWord(uid: string, handle: WorkflowHandle): Promise<Recorded | undefined> {
    await assert.rejects(handle.result(), WorkflowFailedError);
    return recorded.get(uid)?.at(-1);
  }

  it('says on its claim that it was cancelled', async () => {
    const handle = await startWaiting('cancelled');
    await handle.cancel();
    const { podPhase, event, withdrawn } = (await lastWord('cancelled', handle)) ?? {};
    assert.deepEqual([podPhase, event?.reason, withdrawn], ['Failed', 'Cancelled', undefined]);
    assert.equal(event?.message, 'the upload was cancelled');
  });

  /** A run that has prepared the volume of its claim, and is cancelled then. */
  async function cancelInPlace(uid: string): Promise<WorkflowHandle> {
    asked.length = 0;
    const handle = await startWaiting(uid);
    for (let left = 100; left > 0 && asked.length === 0; left--) await pause(100);
    await handle.cancel();
    await lastWord(uid, handle);
    return handle;
  }

  it('promises no sweeper where the node refuses to take back what was written', async () => {
    await cancelInPlace('bound-elsewhere');
    const said = (recorded.get('bound-elsewhere') ?? []).map(({ event }) => event);
    const { message } = said.find((event) => event?.reason === 'CleanupDeferred') ?? {};
    assert.match(message ?? '', /^could not take back what was written: \/dev\/loop7 .*; nobody else does: /);
  });

  it('tells the node of a Bound claim which run it is, also to take back what it has written', async () => {
    const tenures: (string | undefined)[] = [];
    for (const _ of ['first', 'again']) {
      asked.length = 0;
      const handle = await startWaiting('bound');
      for (let left = 100; left > 0 && asked.length === 0; left--) await pause(100);
      const { runId } = await handle.describe();
      await handle.cancel();
      await lastWord('bound', handle);
      assert.deepEqual(
        asked.map(({ tenure }) => tenure),
        [runId, runId],
      );
      tenures.push(runId);
    }
    assert.notEqual(tenures[0], tenures[1]);
  });

  it('says nothing of its end on a claim that has ceased to ask', async () => {
    const handle = await startWaiting('withdrawn');
    await handle.signal(withdrawSignal);
    await handle.cancel();
    assert.equal((await lastWord('withdrawn', handle))?.withdrawn, true);
  });
});
