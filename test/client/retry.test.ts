import assert from 'node:assert/strict';
import { retry } from '../../client/index.js';

describe('retry', () => {
  it('sets a new value of the annotation at each call', async () => {
    const patches: unknown[] = [];
    const patch = async (_: object, body: object) => patches.push(body);
    const first = await retry(patch, { namespace: 'team-a', name: 'vm1' });
    await new Promise((later) => setTimeout(later, 2));
    const second = await retry(patch, { namespace: 'team-a', name: 'vm1' });
    assert.notEqual(first, second);
    const bodies = [first, second].map((value) => ({
      metadata: { annotations: { 'dvflow.io/retry': value } },
    }));
    assert.deepEqual(patches, bodies);
  });
});
