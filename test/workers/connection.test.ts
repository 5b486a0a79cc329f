import assert from 'node:assert/strict';
import { RawValue } from '@temporalio/common';
import { reachTemporal, type TemporalReach } from '../../workers/connection.js';
import { createRuns } from '../../workers/control/runs.js';
import { SEARCH_ATTRIBUTES } from '../../workflows/messages.js';

import { startTemporal, type TestServer } from '../client/temporal.js';
import { eventually } from '../control/support.js';

describe("the workers' client of Temporal", function () {
  this.timeout(60_000);
  let server: TestServer;
  let reach: TemporalReach;
  const { TEMPORAL_ADDRESS: given } = process.env;

  before(async () => {
    server = await startTemporal();
    process.env.TEMPORAL_ADDRESS = server.address;
    reach = await reachTemporal();
  });
  after(async () => {
    if (given === undefined) delete process.env.TEMPORAL_ADDRESS;
    else process.env.TEMPORAL_ADDRESS = given;
    await reach?.close();
    await server?.close();
  });

  it('describes and lists a run whose memo it cannot read, and those beside it', async () => {
    const encrypted = { metadata: { encoding: Buffer.from('binary/encrypted') }, data: Buffer.from('x') };
    for (const [workflowId, memo] of [
      ['strange', { note: RawValue.fromPayload(encrypted) }],
      ['plain', { note: 'x' }],
    ] as const)
      await server.client.workflow.start('blankDataVolume', {
        workflowId,
        taskQueue: 'nobody',
        memo,
        typedSearchAttributes: [{ key: SEARCH_ATTRIBUTES.uid, value: workflowId }],
      });
    const runs = createRuns(reach.client);
    assert.equal((await runs.describe('strange'))?.running, true);
    await eventually('both are listed', async () => {
      const listed: string[] = [];
      for await (const { workflowId } of runs.listRunning()) listed.push(workflowId);
      return listed.length === 2;
    });
  });
});
