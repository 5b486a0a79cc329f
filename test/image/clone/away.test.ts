import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import type { ApplicationFailure } from '@temporalio/common';
import { withRetry } from '../../../activities/image/attempt.js';
import { awayFailure, isAway, transientFailure } from '../../../activities/failures.js';
import { createDataPortClient } from '../../../activities/image/clone/data-port-client.js';
import { peerDirectory } from '../../../workers/pki/directory.js';
import { makeCertificates } from '../../workers/data-port-client.js';
import { makeSource, reserveClone } from '../support/clone.js';
import { makePatterned, MIB, useDirectory } from '../support/images.js';

/** Nobody listens there. */
const NOBODY = 'https://127.0.0.1:1/volume/x';

describe('a clone whose source is on a node that is away', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  let certificates: Awaited<ReturnType<typeof makeCertificates>>;
  let tlsDirectory: string;

  before(async () => {
    certificates = await makeCertificates();
    tlsDirectory = peerDirectory(certificates.directory, 'dvflow-node');
  });
  after(() => certificates[Symbol.dispose]());

  async function failureOf(work: Promise<unknown>): Promise<ApplicationFailure> {
    return await work.then(
      () => assert.fail('it succeeded'),
      (error: ApplicationFailure) => error,
    );
  }

  it('is told that the node is not there, by ranges and by a stream', async () => {
    const tls = { cert: '', key: '', ca: '' };
    for (const url of [NOBODY, 'https://nobody.invalid/volume/x']) {
      const client = createDataPortClient(
        { name: 'PersistentVolume x', url, tls },
        { signal: new AbortController().signal, backoffMs: 1 },
      );
      for (const failure of [await failureOf(client.ask('HEAD', '', {})), await failureOf(client.open(''))]) {
        assert.equal(failure.type, 'NodeUnavailable');
        assert.match(failure.message, /does not answer \(E[A-Z_]+\)$/);
        assert.ok(isAway(failure) && !failure.nonRetryable);
      }
      client.close();
    }
  });

  it('never gives up for that, and does for anything else', () => {
    const away = withRetry(awayFailure('away', { nextRetryDelayMs: 10_000 }), 100);
    assert.deepEqual([away.type, away.nonRetryable, isAway(away)], ['NodeUnavailable', false, true]);
    assert.equal(withRetry(transientFailure('NodeUnavailable', 'no memory'), 10).nonRetryable, true);
  });

  it('does not count the attempt, and asks again in ten seconds', async () => {
    const { volume } = makeSource(directory(), (path) => void makePatterned(path, 1));
    const { start, record, state, input } = await reserveClone(
      directory(),
      { volume, method: 'network', url: NOBODY },
      { usableBytes: MIB, tlsDirectory },
    );
    const attempt = start(12);
    const failure = await failureOf(attempt.done);
    assert.deepEqual([failure.type, failure.nonRetryable], ['NodeUnavailable', false], failure.message);
    assert.equal(failure.nextRetryDelay, 10_000);
    assert.equal(attempt.beats.at(-1)?.barren, 0);
    assert.equal(existsSync(`${state}/record.json`) ? record().barren : 0, 0);
    assert.equal(input.clone?.url, NOBODY);
  });
});
