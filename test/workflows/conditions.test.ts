import assert from 'node:assert/strict';
import type { Phase } from '../../activities/types.js';
import { statusFor } from '../../workflows/conditions.js';

/** `cdi.md` §1.3: what clients read in each phase, as `<status> <reason>`. */
const TABLE: readonly [Phase, { Bound: string; Running: string; Ready: string }, string?][] = [
  ['Pending', { Bound: 'False NotFound', Running: 'False Pending', Ready: 'False Pending' }],
  ['WaitForFirstConsumer', { Bound: 'False Pending', Running: 'False Pending', Ready: 'False Pending' }],
  [
    'ImportScheduled',
    { Bound: 'False Pending', Running: 'False Pending', Ready: 'False Pending' },
    'ImportScheduled',
  ],
  [
    'ImportInProgress',
    { Bound: 'False Pending', Running: 'True Pod is running', Ready: 'False TransferRunning' },
    'ImportInProgress',
  ],
  ['Succeeded', { Bound: 'True Bound', Running: 'False Completed', Ready: 'True ' }, 'ImportSucceeded'],
];

describe('status of an import', () => {
  for (const [phase, expected, event] of TABLE) {
    it(`in phase ${phase}`, () => {
      const status = statusFor(phase, { claim: 'disk' });
      assert.deepEqual(
        Object.fromEntries(
          (status.conditions ?? []).map(({ type, status: is, reason }) => [type, `${is} ${reason}`]),
        ),
        expected,
      );
      assert.equal(status.event?.reason, event);
      assert.equal(status.claimName, 'disk');
    });
  }

  it('Failed carries the failure in Running, Ready and a warning', () => {
    const failure = { type: 'SourceNotFound', message: 'GET http://host/x: 404' };
    const status = statusFor('Failed', { claim: 'disk', failure });
    assert.deepEqual(status.event, { type: 'Warning', reason: failure.type, message: failure.message });
    for (const type of ['Running', 'Ready']) {
      const condition = status.conditions?.find((one) => one.type === type);
      assert.deepEqual([condition?.reason, condition?.message], [failure.type, failure.message]);
    }
  });

  it('a full quota shows on Bound with the reason that KubeVirt looks for', () => {
    const status = statusFor('Pending', {
      claim: 'disk',
      waiting: { reason: 'ErrExceededQuota', message: 'exceeded quota: q' },
    });
    assert.equal(status.conditions?.find(({ type }) => type === 'Bound')?.reason, 'ErrExceededQuota');
  });

  it("scratch space that is being made shows on Bound, and in an event, in CDI's words", () => {
    const waiting = { reason: 'CreatingScratchSpace', message: 'Creating scratch space' };
    const status = statusFor('ImportScheduled', { claim: 'disk', waiting });
    for (const condition of status.conditions ?? [])
      assert.deepEqual(condition, { type: condition.type, status: 'False', ...waiting });
    assert.deepEqual(status.event, { type: 'Normal', ...waiting });
  });

  it('what keeps scratch space from being made is a warning, and a wait for a person is no event', () => {
    const eventOf = (reason: string) =>
      statusFor('ImportScheduled', { claim: 'disk', waiting: { reason, message: 'why' } }).event;
    for (const reason of ['ErrExceededQuota', 'InsufficientCapacity'])
      assert.deepEqual(eventOf(reason), { type: 'Warning', reason, message: 'why' });
    assert.equal(eventOf('SourceNotReady'), undefined);
  });

  it('progress is 100.0% only in Succeeded', () => {
    const phases: readonly Phase[] = ['Pending', 'ImportScheduled', 'ImportInProgress', 'Failed'];
    for (const phase of phases) assert.notEqual(statusFor(phase, { claim: 'disk' }).progress, '100.0%');
    assert.equal(statusFor('Succeeded', { claim: 'disk' }).progress, '100.0%');
  });
});
