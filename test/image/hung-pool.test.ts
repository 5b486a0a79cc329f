import assert from 'node:assert/strict';
import type { ApplicationFailure } from '@temporalio/common';
import { lookAt } from '../../activities/node/answers.js';
import { MIB, useDirectory } from './support/images.js';
import { reserve } from './support/transfer.js';
import { makeTarget, session, useDataPort } from './upload/support.js';

/** As many attempts have made nothing as may. */
const BEFORE = { attempt: 12, heartbeatDetails: { barren: 9 } };

describe('a transfer into a pool that does not answer', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  const server = useDataPort();

  /** Work at each path that has no end yet, and is known to have none. */
  async function hang(...paths: readonly string[]): Promise<() => void> {
    let end = (): void => undefined;
    const work = new Promise<void>((resolve) => (end = resolve));
    await Promise.all(
      paths.map((path) =>
        assert.rejects(
          lookAt(path, 'here', () => work),
          /does not answer/,
        ),
      ),
    );
    return end;
  }

  it('is tried again for as long as that lasts, and counts no attempt; an upload likewise', async () => {
    const transfer = await reserve(directory(), { url: 'http://127.0.0.1:1/' }, MIB);
    const upload = await makeTarget(directory(), MIB, server);
    const end = await hang(transfer.pool, upload.pool);
    try {
      const attempts = [
        transfer.start(BEFORE.attempt, BEFORE.heartbeatDetails),
        upload.receive(session(), {}, BEFORE),
      ];
      for (const { done, beats } of attempts) {
        const failure = await (done as Promise<unknown>).then(
          () => assert.fail('it succeeded'),
          (error: ApplicationFailure) => error,
        );
        assert.match(
          failure.message,
          /the file system at .* does not answer: see to its disk or its server$/,
        );
        assert.deepEqual([failure.type, failure.nonRetryable], ['NodeUnavailable', false]);
        assert.equal(beats.at(-1)?.barren, 9);
      }
    } finally {
      end();
    }
  });
});
