import assert from 'node:assert/strict';
import {
  ActivityFailure,
  ApplicationFailure,
  RetryState,
  TimeoutFailure,
  TimeoutType,
} from '@temporalio/common';
import { judgeInput } from '../../activities/kubernetes/local-volume-input.js';
import { defaultVolumeName } from '../../workflows/local-volume-name.js';
import { nodeFailure } from '../../workflows/silent-node.js';

describe('the default name of a block volume', () => {
  for (const [node, expected] of [
    ['node01', 'local-node01-1a2b3c4d'],
    ['ip-10-0-0-1.ec2.internal', 'local-ip-10-0-0-1-ec2-internal-1a2b3c4d'],
    [`${'n'.repeat(47)}.example`, `local-${'n'.repeat(47)}-1a2b3c4d`],
    [`${'n'.repeat(250)}`, `local-${'n'.repeat(48)}-1a2b3c4d`],
  ] as const) {
    it(`is one that a volume may have, for node ${node.slice(0, 60)}`, () => {
      const name = defaultVolumeName(node, '1a2b3c4d');
      assert.equal(name, expected);
      assert.equal(judgeInput({ node, size: '2Gi' }, name).name, name);
    });
  }

  it('lets the plan refuse what is no node', () => {
    const name = defaultVolumeName(undefined, '1a2b3c4d');
    assert.throws(() => judgeInput({ size: '2Gi' } as never, name), /"node" is missing/);
  });
});

describe('a step on a node that does not answer', () => {
  const told = { node: 'node01', then: 'start its worker' };
  const failed = (cause: Error): ActivityFailure =>
    new ActivityFailure('Activity task failed', 'createLoopVolume', '1', RetryState.TIMEOUT, 'node', cause);
  const timeout = (last?: Error): TimeoutFailure => {
    const failure = new TimeoutFailure('timed out', undefined, TimeoutType.SCHEDULE_TO_CLOSE);
    return Object.assign(failure, { cause: last });
  };

  it('fails as NodeUnavailable that says what to do', () => {
    const failure = nodeFailure(failed(timeout()), told);
    assert.ok(failure instanceof ApplicationFailure && failure.nonRetryable);
    assert.equal(failure.type, 'NodeUnavailable');
    assert.equal(failure.message, 'no node worker answers on node node01; start its worker');
  });

  it('fails by what its last attempt said', () => {
    const last = ApplicationFailure.create({ type: 'NoSpace', message: 'the pool is full' });
    const failure = nodeFailure(failed(timeout(last)), told);
    assert.ok(failure instanceof ApplicationFailure);
    assert.equal(failure.type, 'NoSpace');
    assert.match(failure.message, /node01 did not come to an end: the pool is full; start its worker/);
  });

  it('passes everything else on', () => {
    const error = failed(ApplicationFailure.create({ type: 'ResourceExists', nonRetryable: true }));
    assert.equal(nodeFailure(error, told), error);
  });
});
