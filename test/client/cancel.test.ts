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
});
