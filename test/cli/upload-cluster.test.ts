import assert from 'node:assert/strict';
import { ApiException } from '@kubernetes/client-node';
import type { DataVolume } from '../../cli/data-volumes.js';
import { CliError } from '../../cli/errors.js';
import { openUploadCluster, type UploadCluster } from '../../cli/upload/cluster.js';

/** What the API is asked for. */
interface Api {
  readonly read: () => Promise<unknown>;
  readonly create?: (kind: string) => Promise<unknown>;
}

const NOT_FOUND = new ApiException(404, 'Not Found', '{"reason":"NotFound"}', {});

function volume(phase: string, { uid = 'first', message = '' } = {}): DataVolume {
  const metadata = { name: 'disk', namespace: 'team-a', uid, creationTimestamp: '' };
  return {
    metadata,
    status: { phase, conditions: [{ type: 'Running', reason: 'Pod is running', message }] },
  };
}

/** Answers by what is next, by the last one again and again. */
function inTurn(...answers: readonly (DataVolume | Error)[]): () => Promise<DataVolume> {
  let asked = 0;
  return async () => {
    const answer = answers[Math.min(asked, answers.length - 1)];
    asked += 1;
    if (answer instanceof Error || answer === undefined) throw answer ?? new Error('nothing is left');
    return answer;
  };
}

describe('the DataVolume of an upload', function () {
  this.timeout(30_000);
  let interrupt: AbortController;
  let said: string[];

  beforeEach(() => {
    interrupt = new AbortController();
    said = [];
  });

  const say = (text: string): void => void said.push(text);

  async function open({ read, create = read }: Api): Promise<UploadCluster> {
    const api = {
      getNamespacedCustomObject: read,
      createNamespacedCustomObject: async ({ plural }: { plural: string }) => await create(plural),
    };
    const kubeConfig = { makeApiClient: () => api };
    const { signal } = interrupt;
    return await openUploadCluster(kubeConfig as never, { namespace: 'team-a', name: 'disk', signal });
  }

  it('can be interrupted while it is waited for, before and after', async () => {
    const cluster = await open({ read: inTurn(volume('ImportScheduled')) });
    const began = cluster.awaitReady(() => interrupt.abort(new CliError('interrupted', 130)));
    await assert.rejects(began, /interrupted/);
    await assert.rejects(cluster.awaitSucceeded(), /interrupted/);
  });

  it('is the one that was made or found, and no other one that has its name later', async () => {
    const gone: Partial<CliError> = {
      exitCode: 3,
      message: 'DataVolume team-a/disk is gone, another one has its name',
    };
    for (const asked of ['awaitReady', 'awaitSucceeded', 'check', 'token'] as const) {
      const create = async (kind: string): Promise<unknown> =>
        kind === 'datavolumes' ? volume('Pending') : { status: { token: 'a.b.c' } };
      const made = await open({ read: inTurn(volume('UploadReady', { uid: 'second' })), create });
      await made.ensure({});
      await assert.rejects(made[asked](say), gone, asked);
      // found, and replaced while the token is made
      const read = inTurn(volume('UploadReady'), volume('UploadReady', { uid: 'second' }));
      const found = await open({ read, create });
      await found.ensure(undefined);
      await assert.rejects(found[asked](say), gone, asked);
    }
  });

  it('that is gone ends what waits for it', async () => {
    for (const asked of ['awaitReady', 'awaitSucceeded', 'check', 'token'] as const) {
      const create = async (): Promise<unknown> => ({ status: { token: 'a.b.c' } });
      const cluster = await open({ read: inTurn(volume('UploadReady'), NOT_FOUND), create });
      await cluster.ensure(undefined);
      await assert.rejects(
        cluster[asked](say),
        { exitCode: 3, message: 'DataVolume team-a/disk is gone' },
        asked,
      );
    }
  });

  it('has a token as long as it is the same', async () => {
    const create = async (): Promise<unknown> => ({ status: { token: 'a.b.c' } });
    const cluster = await open({ read: inTurn(volume('UploadReady')), create });
    await cluster.ensure(undefined);
    assert.equal(await cluster.token(), 'a.b.c');
  });
});
