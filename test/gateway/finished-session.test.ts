import assert from 'node:assert/strict';
import type { Client } from '@temporalio/client';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import { createFinishedSession } from '../../workers/gateway/open-upload.js';
import type { UploadClaim } from '../../workers/gateway/upload-claims.js';

describe('the session of an upload that is complete', () => {
  const MADE = { 'dvflow.io/workflow-id': 'upload/a/x' };
  for (const [what, annotations, workflowId] of [
    ['made from Temporal', MADE, 'upload/a/x'],
    ['made from Temporal and retried', { ...MADE, 'dvflow.io/retried': '1' }, 'datavolume/a/x/u'],
    ['made with kubectl', {}, 'datavolume/a/x/u'],
  ] as const)
    it(`is asked of the run that serves its DataVolume: ${what}`, async () => {
      const asked: string[] = [];
      const getHandle = (id: string) => {
        asked.push(id);
        return {
          describe: async () => ({ status: { name: 'COMPLETED' } }),
          result: async () => ({ session: 's' }),
        };
      };
      const found = { metadata: { namespace: 'a', name: 'x', uid: 'u', annotations } };
      const custom = { getNamespacedCustomObject: async () => found };
      const finished = createFinishedSession(
        { workflow: { getHandle } } as unknown as Client,
        { custom } as unknown as Kubernetes,
      );
      const claim = { namespace: 'a', name: 'x', uid: 'c', dataVolumeUid: 'u' } as UploadClaim;
      assert.equal(await finished(claim), 's');
      assert.deepEqual(asked, [workflowId]);
    });
});
