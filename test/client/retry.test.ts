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

  it('takes off what binds the claim at once, where a consumer is to be waited for', async () => {
    const patches: unknown[] = [];
    const patch = async (_: object, body: object) => patches.push(body);
    const dataVolume = { namespace: 'team-a', name: 'vm1' };
    const value = await retry(patch, dataVolume, { waitForConsumer: true });
    const annotations = {
      'dvflow.io/retry': value,
      'cdi.kubevirt.io/storage.bind.immediate.requested': null,
    };
    assert.deepEqual(patches, [{ metadata: { annotations } }]);
  });
});
