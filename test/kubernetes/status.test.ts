import assert from 'node:assert/strict';
import { lifecycleWorkflowId } from '../../activities/kubernetes/names.js';
import { statusOf } from '../../activities/kubernetes/status.js';
import type { Condition } from '../../activities/types.js';
import { dataVolumeWorkflowId } from '../../workflows/task-queues.js';

const dataVolume = { namespace: 'a', name: 'b', uid: 'c' };
const at = (seconds: number): Date => new Date(Date.UTC(2030, 0, 1, 0, 0, seconds));
const text = (seconds: number): string => `2030-01-01T00:00:0${seconds}Z`;
const running = (status: Condition['status'], message: string): Condition => ({
  type: 'Running',
  status,
  reason: 'r',
  message,
});
const bound: Condition = { type: 'Bound', status: 'False', reason: 'Pending', message: 'PVC b Pending' };

describe('statusOf', () => {
  it('moves transition times with the status and heartbeat times with anything said', () => {
    const first = statusOf(undefined, { dataVolume, conditions: [running('False', '1'), bound] }, at(1));
    const times = (status: typeof first) =>
      status.conditions?.map(({ type, lastTransitionTime, lastHeartbeatTime }) => [
        type,
        lastTransitionTime,
        lastHeartbeatTime,
      ]);
    assert.deepEqual(times(first), [
      ['Running', text(1), text(1)],
      ['Bound', text(1), text(1)],
    ]);
    const same = statusOf(first, { dataVolume, conditions: [running('False', '1'), bound] }, at(2));
    assert.deepEqual(same, first);
    const said = statusOf(first, { dataVolume, conditions: [running('False', '2')] }, at(3));
    assert.deepEqual(times(said), [
      ['Running', text(1), text(3)],
      ['Bound', text(1), text(1)],
    ]);
    const turned = statusOf(said, { dataVolume, conditions: [running('True', '2')] }, at(4));
    assert.deepEqual(times(turned), [
      ['Running', text(4), text(4)],
      ['Bound', text(1), text(1)],
    ]);
  });

  it('keeps what an update does not name, and ends at 100 %', () => {
    const before = {
      phase: 'ImportInProgress',
      progress: '99.10%',
      restartCount: 2,
      claimName: 'b',
    } as const;
    assert.deepEqual(statusOf(before, { dataVolume }, at(1)), before);
    assert.deepEqual(statusOf(before, { dataVolume, phase: 'Succeeded' }, at(1)), {
      ...before,
      phase: 'Succeeded',
      progress: '100.0%',
    });
  });
});

describe('lifecycleWorkflowId', () => {
  it('is the id that the workflows use', () => {
    assert.equal(lifecycleWorkflowId(dataVolume), dataVolumeWorkflowId(dataVolume));
  });
});
