import assert from 'node:assert/strict';
import type { Client } from '@temporalio/client';
import { cancel, NoSuchRunError } from '../../client/index.js';

/** A server that knows one run in this state, and counts how often it is asked to cancel it. */
function clientWith(state: string) {
  const asked = { cancelled: 0 };
  const handle = {
    describe: async () => ({ status: { name: state } }),
    cancel: async () => void asked.cancelled++,
  };
  return { asked, client: { workflow: { getHandle: () => handle } } as unknown as Client };
}

/** A server whose newest run of the id is `second`, which goes on with `first` or was started after it. */
function clientContinuing(firstRunId: string) {
  const cancelled: unknown[] = [];
  const getHandle = (_id: string, runId = 'second') => ({
    describe: async () => ({
      runId,
      status: { name: runId === 'first' ? 'CONTINUED_AS_NEW' : 'RUNNING' },
      raw: { workflowExecutionInfo: { firstRunId: runId === 'first' ? 'first' : firstRunId } },
    }),
    cancel: async () => void cancelled.push(runId),
  });
  return { cancelled, client: { workflow: { getHandle } } as unknown as Client };
}

describe('cancel', () => {
  for (const state of ['RUNNING', 'PAUSED']) {
    it(`asks a run that is ${state}`, async () => {
      const { asked, client } = clientWith(state);
      assert.equal((await cancel(client, 'import/team-a/vm1')).workflowId, 'import/team-a/vm1');
      assert.equal(asked.cancelled, 1);
    });
  }

  it('tells that a run has ended', async () => {
    const { asked, client } = clientWith('COMPLETED');
    await assert.rejects(cancel(client, 'import/team-a/vm1'), NoSuchRunError);
    assert.equal(asked.cancelled, 0);
  });

  it('asks the run that goes on with one that has continued as new, and no later one', async () => {
    const first = { workflowId: 'import/team-a/vm1', runId: 'first' };
    const continued = clientContinuing('first');
    assert.deepEqual(await cancel(continued.client, first), { ...first, runId: 'second' });
    assert.deepEqual(continued.cancelled, ['second']);
    const anew = clientContinuing('second');
    await assert.rejects(cancel(anew.client, first), NoSuchRunError);
    assert.deepEqual(anew.cancelled, []);
  });
});
