import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { WorkflowFailedError, type WorkflowHandle } from '@temporalio/client';
import type { UploadClaim, UploadControlActivities } from '../../activities/types/upload.js';
import { withdrawSignal } from '../../workflows/messages.js';
import { CONTROL_QUEUE } from '../../workflows/task-queues.js';
import { useWorkers } from '../client/workers.js';

type Recorded = Parameters<UploadControlActivities['recordUploadClaim']>[0];

describe('the lifecycle of an upload into a claim, with other activities', function () {
  this.timeout(60_000);
  /** What is said on each claim, by uid. */
  const recorded = new Map<string, Recorded[]>();

  const activities: Pick<UploadControlActivities, 'openUploadClaim' | 'recordUploadClaim'> = {
    async openUploadClaim({ claim }): Promise<UploadClaim> {
      const facts = {
        ...claim,
        source: 'upload',
        displayUrl: '',
        contentType: 'kubevirt',
        phase: '',
        deadlineMs: 3_600_000,
      } as const;
      return { facts, waiting: { reason: 'Pending', message: 'not Bound yet', counts: false } };
    },
    async recordUploadClaim(input) {
      recorded.set(input.claim.uid, [...(recorded.get(input.claim.uid) ?? []), input]);
    },
  };

  const server = useWorkers({
    workflows: new URL('../../workflows/upload-claim.ts', import.meta.url),
    queues: () => ({ [CONTROL_QUEUE]: { ...activities } }),
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
  });

  it('says nothing of its end on a claim that has ceased to ask', async () => {
    const handle = await startWaiting('withdrawn');
    await handle.signal(withdrawSignal);
    await handle.cancel();
    assert.equal((await lastWord('withdrawn', handle))?.withdrawn, true);
  });
});
