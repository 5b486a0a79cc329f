import assert from 'node:assert/strict';
import { ApplicationFailure } from '@temporalio/common';
import { assertFits, requestFor } from '../../activities/image/size.js';
import { requiredSpace } from '../../activities/kubernetes/overhead.js';

const MIB = 1024 * 1024;

describe('sizes', () => {
  it('asks for what CDI asks for (cdi.md §2.10)', () => {
    assert.equal(requiredSpace(0.06, 1024 * MIB), 1_138_166_334);
    assert.equal(requiredSpace(0, 1), MIB);
    assert.equal(requestFor(2048 * MIB, { overhead: 0.06, api: 'pvc' }), 2_276_332_667);
    assert.equal(requestFor(2048 * MIB, { overhead: 0.06, api: 'storage' }), 2048 * MIB);
  });

  it('says both figures, the overhead and the cure', () => {
    const target = {
      claimName: 'team-a/vm1',
      usableBytes: 1_012_924_416,
      overhead: 0.06,
      api: 'pvc',
    } as const;
    assert.throws(
      () => assertFits(2048 * MIB, target),
      (error) =>
        error instanceof ApplicationFailure &&
        error.type === 'LargerPVCRequired' &&
        error.message ===
          'image needs 2147483648 bytes, claim team-a/vm1 offers 1012924416 after 6% file system overhead: ask for at least 2276332667',
    );
    assertFits(1_012_924_416, target);
  });
});
