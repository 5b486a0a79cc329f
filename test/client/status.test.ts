import assert from 'node:assert/strict';
import { defaultPayloadConverter } from '@temporalio/common';
import type { Client } from '@temporalio/client';
import { TRANSFER_ACTIVITIES } from '../../activities/kubernetes/executions.js';
import { status } from '../../client/index.js';

/** A server that knows one run, with this activity under way. */
function clientWith(activity: string, heartbeat: object): Client {
  const payloads = [defaultPayloadConverter.toPayload(heartbeat)];
  const described = {
    runId: 'run',
    status: { name: 'RUNNING' },
    startTime: new Date(0),
    raw: { pendingActivities: [{ activityType: { name: activity }, heartbeatDetails: { payloads } }] },
  };
  const handle = {
    query: async () => ({ namespace: 'team-a', name: 'vm1' }),
    describe: async () => described,
  };
  const loadedDataConverter = { payloadConverter: defaultPayloadConverter, payloadCodecs: [] };
  return { workflow: { getHandle: () => handle }, options: { loadedDataConverter } } as unknown as Client;
}

describe('status', () => {
  for (const activity of TRANSFER_ACTIVITIES) {
    it(`shows the progress that ${activity} heartbeats`, async () => {
      const progress = { phase: 'transferring', bytesRead: 1024 };
      const found = await status(clientWith(activity, progress), 'run/team-a/vm1');
      assert.deepEqual(found.progress, progress);
    });
  }

  it('takes no other heartbeat for progress', async () => {
    const found = await status(clientWith('publishVolume', { since: 1 }), 'run/team-a/vm1');
    assert.equal(found.progress, undefined);
  });
});
