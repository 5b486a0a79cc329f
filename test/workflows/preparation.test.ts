import assert from 'node:assert/strict';
import { ActivityFailure, ApplicationFailure, TimeoutFailure } from '@temporalio/common';
import type { NodeStatus } from '../../activities/types/preparation.js';
import type { Round } from '../../workflows/preparation-conditions.js';
import { noteProgress } from '../../workflows/preparation-run.js';
import { messageOf } from '../../workflows/prepare-nodes.js';
import { readInput } from '../../workflows/prepare-storage.js';

describe('the argument of prepareStorage', () => {
  for (const nonsense of [
    { uid: 'x' },
    { uid: 'x', name: '' },
    { uid: '', name: 'hpp' },
    { uid: 7, name: 'hpp' },
    { uid: 'x', name: { first: 'hpp' } },
    { uid: undefined, name: 'hpp' },
  ]) {
    it(`is no reference: ${JSON.stringify(nonsense)}`, () =>
      assert.throws(
        () => readInput(nonsense),
        (error: unknown) =>
          error instanceof ApplicationFailure &&
          error.type === 'InvalidHostPathProvisioner' &&
          error.nonRetryable === true &&
          /give name and uid/.test(error.message),
      ));
  }

  it('is a reference, a manifest, or its text', () => {
    const ref = { name: 'hpp', uid: 'x', progressAt: 7 };
    assert.deepEqual(readInput(ref), { ref });
    const manifest = { metadata: { name: 'hpp' }, spec: {} };
    assert.deepEqual(readInput(manifest), { manifest });
    assert.deepEqual(readInput('{}'), { manifest: '{}' });
  });
});

describe('the deadline of a preparation', () => {
  const round = (...phases: NodeStatus['phase'][]): Round => ({
    nodes: phases.map((phase, index) => ({ name: `n${index}`, phase, message: '' })),
    total: phases.length,
    rollouts: [],
    shared: [],
    notes: [],
  });
  const rolled = (...done: string[]): Round => ({
    ...round('Progressing', 'Progressing'),
    rollouts: [{ pool: 'worker', state: 'updating', message: '', done, nodes: {} }],
  });

  it('is set back by every node more, and by no node that comes and goes', () => {
    const run = { most: 0, progressAt: 0 };
    const moves = (next: Round): boolean => {
      run.progressAt = 0;
      noteProgress(run, next);
      return run.progressAt > 0;
    };
    assert.equal(moves(round('Degraded', 'Progressing')), false);
    assert.equal(moves(round('Ready', 'Progressing')), true);
    for (let flap = 0; flap < 3; flap += 1) {
      assert.equal(moves(round('Degraded', 'Progressing')), false);
      assert.equal(moves(round('Ready', 'Degraded')), false);
    }
    assert.equal(moves(round('Ready', 'Ready')), true);
  });

  it('is set back by a node that a rollout has reached', () => {
    const run = { most: 0, progressAt: 0 };
    noteProgress(run, rolled('w1'));
    assert.ok(run.progressAt > 0);
    run.progressAt = 0;
    noteProgress(run, rolled());
    noteProgress(run, rolled('w2'));
    assert.equal(run.progressAt, 0);
    noteProgress(run, rolled('w1', 'w2'));
    assert.ok(run.progressAt > 0);
  });
});

describe('what is said of a node whose step timed out', () => {
  const failure = (type: TimeoutFailure['timeoutType']): ActivityFailure =>
    new ActivityFailure(
      'failed',
      'labelBackingDirectory',
      '1',
      'TIMEOUT',
      'w',
      new TimeoutFailure('timed out', undefined, type),
    );
  for (const [type, says] of [
    ['SCHEDULE_TO_START', /^no node worker answers on n1$/],
    ['START_TO_CLOSE', /^labelBackingDirectory began on n1 and did not end in time/],
    ['HEARTBEAT', /^labelBackingDirectory began on n1 and was not heard of any more/],
  ] as const) {
    it(`${type}: ${says.source}`, () => assert.match(messageOf('n1', failure(type)), says));
  }
});
