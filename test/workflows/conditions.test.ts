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

/** `cdi.md` §1.4: event of each phase, and what `Running` says at the end. */
const OTHERS = [
  {
    told: { source: 'pvc', namespace: 'team-a', from: 'team-b/golden' },
    complete: 'Clone Complete',
    events: {
      CloneScheduled: 'CloneScheduled: Cloning from team-b/golden into team-a/disk scheduled',
      CloneInProgress: 'CloneInProgress: Cloning from team-b/golden into team-a/disk in progress',
      Succeeded: 'CloneSucceeded: Successfully cloned from team-b/golden into team-a/disk',
      Failed: 'Error: Cloning from team-b/golden into team-a/disk failed',
    },
  },
  {
    told: { source: 'upload' },
    complete: 'Upload Complete',
    events: {
      UploadScheduled: 'UploadScheduled: Upload into disk scheduled',
      UploadReady: 'UploadReady: Upload into disk ready',
      Succeeded: 'UploadSucceeded: Successfully uploaded into disk',
      Failed: 'Error: Upload into disk failed',
    },
  },
] as const;

describe('status of a clone and of an upload', () => {
  for (const { told, complete, events } of OTHERS) {
    for (const [phase, expected] of Object.entries(events)) {
      it(`${told.source}: phase ${phase} is told in CDI's words`, () => {
        const { event, conditions } = statusFor(phase as Phase, { claim: 'disk', ...told });
        assert.equal(`${event?.reason}: ${event?.message}`, expected);
        const running = conditions?.find(({ type }) => type === 'Running');
        if (phase === 'Succeeded') assert.equal(running?.message, complete);
        if (phase === 'CloneInProgress' || phase === 'UploadReady') assert.equal(running?.status, 'True');
      });
    }
  }
});

describe('status of an upload', () => {
  it('tells virtctl by the claim when it may send', () => {
    const facts = { claim: 'disk', source: 'upload' } as const;
    const told = (phase: Phase) => {
      const { podPhase, podReady } = statusFor(phase, facts);
      return [podPhase, podReady];
    };
    assert.deepEqual(told('UploadScheduled'), ['Pending', false]);
    assert.deepEqual(told('UploadReady'), ['Running', true]);
    assert.deepEqual(told('Succeeded'), ['Succeeded', undefined]);
  });

  it('says why the last client did not succeed, with an event, and that nothing has come of it', () => {
    const waiting = { reason: 'UploadFailed', message: 'upload failed, send again: it is cut short' };
    const { event, conditions, progress } = statusFor('UploadReady', {
      claim: 'disk',
      source: 'upload',
      waiting,
    });
    const running = conditions?.find(({ type }) => type === 'Running');
    assert.deepEqual([running?.status, running?.reason], ['True', 'Pod is running']);
    assert.equal(running?.message, waiting.message);
    assert.deepEqual(event, { type: 'Warning', ...waiting });
    assert.equal(progress, 'N/A');
  });

  it('says nothing of the kind while the first client is waited for', () => {
    const waiting = { reason: 'UploadReady', message: 'waiting for an upload' };
    const { event, conditions } = statusFor('UploadReady', { claim: 'disk', source: 'upload', waiting });
    assert.equal(conditions?.find(({ type }) => type === 'Running')?.message, '');
    assert.equal(event, undefined);
  });
});

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

  it('Succeeded does not say Bound of a claim that was adopted and has no volume yet', () => {
    const { conditions } = statusFor('Succeeded', { claim: 'disk', bound: false });
    const said = conditions?.map(({ type, status, reason }) => `${type} ${status} ${reason}`);
    assert.deepEqual(said, ['Bound False Pending', 'Running False Completed', 'Ready True ']);
  });

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

  it('a claim that waits for the volume which is kept for it is there', () => {
    const waiting = { reason: 'Pending', message: 'claim a/disk to be Bound to PersistentVolume kept' };
    const [bound, running] = statusFor('Pending', { claim: 'disk', waiting }).conditions ?? [];
    assert.deepEqual([bound?.reason, bound?.message], ['Pending', 'PVC disk Pending']);
    assert.equal(running?.message, waiting.message);
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
