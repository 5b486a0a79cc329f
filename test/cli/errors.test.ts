import assert from 'node:assert/strict';
import { ApplicationFailure, CancelledFailure, WorkflowFailedError } from '@temporalio/client';
import { RetryState } from '@temporalio/common';
import { CliError, EXIT, exitCodeOf, judge } from '../../cli/errors.js';
import { ManifestError, NoSuchRunError } from '../../client/index.js';
import { FAILURE_TYPES } from '../../activities/failures.js';

function failedBy(cause: Error): WorkflowFailedError {
  return new WorkflowFailedError('Workflow execution failed', cause, RetryState.NON_RETRYABLE_FAILURE);
}

describe('exit codes', () => {
  for (const [type, kind] of Object.entries(FAILURE_TYPES)) {
    it(`${type} exits with ${EXIT[kind]}, ${kind}`, async () => {
      const judged = await judge(failedBy(ApplicationFailure.create({ type, message: 'why' })));
      assert.deepEqual(judged, { exitCode: EXIT[kind], message: `${type}: why` });
    });
  }

  it('tell a cancelled import', async () => {
    const judged = await judge(failedBy(new CancelledFailure('cancelled')));
    assert.deepEqual(judged, { exitCode: EXIT.cancelled, message: 'Cancelled: the import was cancelled' });
  });

  it('know no class for a type that the catalogue does not have', async () => {
    assert.equal(await exitCodeOf('SomethingNew'), EXIT.unknown);
  });

  for (const [what, error, expected] of [
    ['a missing workflow', new NoSuchRunError('Temporal knows no workflow x'), EXIT.notFound],
    ['an error with a code of its own', new CliError('no', 130), 130],
    ['a missing object', apiError(404, 'datavolumes "x" not found'), EXIT.notFound],
    ['a forbidden call', apiError(403, 'datavolumes is forbidden'), EXIT.permanent],
    ['an API server in trouble', apiError(500, 'etcd is away'), EXIT.unreachable],
    ['a refused manifest', new ManifestError('metadata.name is missing'), EXIT.usage],
    [
      'a server that is away',
      new TypeError('fetch failed', { cause: new Error('connect ECONNREFUSED') }),
      EXIT.unreachable,
    ],
    [
      'an API server that hangs',
      new DOMException('The operation was aborted due to timeout', 'TimeoutError'),
      EXIT.unreachable,
    ],
    ['Temporal going away', Object.assign(new Error('14 UNAVAILABLE'), { code: 14 }), EXIT.unreachable],
    ['a bug', new TypeError('x is undefined'), EXIT.unknown],
  ] as const) {
    it(`tell ${what}: ${expected}`, async () => assert.equal((await judge(error)).exitCode, expected));
  }

  it('say what the API server said, or that it said nothing', async () => {
    assert.equal(
      (await judge(apiError(404, 'datavolumes "x" not found'))).message,
      'datavolumes "x" not found',
    );
    const late = new DOMException('The operation was aborted due to timeout', 'TimeoutError');
    assert.equal((await judge(late)).message, 'Kubernetes does not answer: nothing in 20 s');
  });
});

function apiError(code: number, message: string): Error {
  return Object.assign(new Error(`HTTP-Code: ${code}`), {
    code,
    body: JSON.stringify({ kind: 'Status', message }),
  });
}
