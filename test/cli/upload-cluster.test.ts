import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { ApiException, KubeConfig } from '@kubernetes/client-node';
import type { DataVolume } from '../../cli/data-volumes.js';
import { CliError } from '../../cli/errors.js';
import { projectRoot } from '../../local/paths.js';
import { openUploadCluster, type UploadCluster } from '../../cli/upload/cluster.js';
import { startServer } from '../support/servers/index.js';

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

  const asks = Object.entries({
    awaitReady: (cluster: UploadCluster) => cluster.awaitReady(say),
    awaitSucceeded: (cluster: UploadCluster) => cluster.awaitSucceeded(say),
    check: (cluster: UploadCluster) => cluster.check(),
    token: (cluster: UploadCluster) => cluster.token(),
  });

  async function open({ read, create = read }: Api): Promise<UploadCluster> {
    const api = {
      getNamespacedCustomObject: read,
      getClusterCustomObject: read,
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
    await assert.rejects(cluster.awaitSucceeded(say), /interrupted/);
  });

  it('is the one that was made or found, and no other one that has its name later', async () => {
    const gone: Partial<CliError> = {
      exitCode: 3,
      message: 'DataVolume team-a/disk is gone, another one has its name',
    };
    for (const [asked, ask] of asks) {
      const create = async (kind: string): Promise<unknown> =>
        kind === 'datavolumes' ? volume('Pending') : { status: { token: 'a.b.c' } };
      const made = await open({ read: inTurn(volume('UploadReady', { uid: 'second' })), create });
      await made.ensure({});
      await assert.rejects(ask(made), gone, asked);
      // found, and replaced while the token is made
      const read = inTurn(volume('UploadReady'), volume('UploadReady', { uid: 'second' }));
      const found = await open({ read, create });
      await found.ensure(undefined);
      await assert.rejects(ask(found), gone, asked);
    }
  });

  it('that is gone ends what waits for it', async () => {
    for (const [asked, ask] of asks) {
      const create = async (): Promise<unknown> => ({ status: { token: 'a.b.c' } });
      const cluster = await open({ read: inTurn(volume('UploadReady'), NOT_FOUND), create });
      await cluster.ensure(undefined);
      await assert.rejects(ask(cluster), { exitCode: 3, message: 'DataVolume team-a/disk is gone' }, asked);
    }
  });

  it('has a token as long as it is the same', async () => {
    const create = async (): Promise<unknown> => ({ status: { token: 'a.b.c' } });
    const cluster = await open({ read: inTurn(volume('UploadReady')), create });
    await cluster.ensure(undefined);
    assert.equal(await cluster.token(), 'a.b.c');
  });

  it('is looked at again while Kubernetes does not answer, which is said once', async () => {
    const away = Object.assign(new TypeError('fetch failed'), {
      cause: Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }),
    });
    const busy = new ApiException(503, 'Service Unavailable', 'apiserver not ready', {});
    const late = new DOMException('The operation was aborted due to timeout', 'TimeoutError');
    const read = inTurn(away, busy, late, volume('ImportScheduled'), away, volume('UploadReady'));
    const ready = await (await open({ read })).awaitReady(say);
    assert.equal(ready.status?.phase, 'UploadReady');
    const words = 'Kubernetes does not answer (ECONNRESET): trying again';
    assert.deepEqual(said, [words, 'DataVolume team-a/disk: ImportScheduled', words]);
    said = [];
    const sent = await open({ read: inTurn(busy, away, volume('UploadReady'), volume('Succeeded')) });
    await sent.awaitSucceeded(say);
    assert.deepEqual(said, [
      'Kubernetes does not answer (HTTP 503): trying again',
      'sent; waiting for the claim',
    ]);
  });

  it('has a gateway that is asked for again while Kubernetes does not answer', async () => {
    const late = new DOMException('The operation was aborted due to timeout', 'TimeoutError');
    const answers = [late, { status: { uploadProxyURL: 'gateway.test' } }];
    const read = async (): Promise<unknown> => {
      const answer = answers.shift();
      if (answer instanceof Error) throw answer;
      return answer;
    };
    assert.equal(await (await open({ read })).proxyUrl(say), 'https://gateway.test');
    assert.deepEqual(said, ['Kubernetes does not answer (nothing in 20 s): trying again']);
  });

  it('is looked at no more where Kubernetes refuses, or is another server', async () => {
    const refused = new ApiException(403, 'Forbidden', '{"message":"datavolumes is forbidden"}', {});
    const foreign = Object.assign(new TypeError('fetch failed'), {
      cause: Object.assign(new Error('self-signed certificate'), { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' }),
    });
    for (const error of [refused, foreign, new Error('a bug')]) {
      await assert.rejects((await open({ read: inTurn(error) })).awaitReady(say), error);
      await assert.rejects((await open({ read: inTurn(error) })).awaitSucceeded(say), error);
    }
    assert.deepEqual(said, []);
  });

  it('can be interrupted while Kubernetes says nothing', async () => {
    const silent = await startServer(() => undefined);
    try {
      const kubeConfig = new KubeConfig();
      kubeConfig.loadFromClusterAndUser(
        { name: 'silent', server: silent.url, skipTLSVerify: true },
        { name: 'nobody' },
      );
      const { signal } = interrupt;
      const place = { namespace: 'team-a', name: 'disk', signal };
      const cluster = await openUploadCluster(kubeConfig, place);
      const asked = [...asks.map(([, ask]) => ask), () => cluster.ensure({}), () => cluster.proxyUrl(say)];
      const waiting = asked.map(async (ask) => await assert.rejects(ask(cluster), /interrupted/));
      while (silent.requests().length < asked.length) await pause(5);
      interrupt.abort(new CliError('interrupted', 130));
      await Promise.all(waiting);
    } finally {
      await silent.close();
    }
  });

  it('that is complete will do where that is asked for', async () => {
    const complete = await open({ read: inTurn(volume('Succeeded')) });
    const refusal =
      /^CliError: DataVolume team-a\/disk is complete already: delete it, or choose another name$/;
    await assert.rejects(complete.awaitReady(say), refusal);
    await assert.rejects(complete.check(), refusal);
    assert.equal((await complete.awaitReady(say, 'taken')).status?.phase, 'Succeeded');
    await complete.check('taken');
  });

  it('is told of a file that is refused after it was sent, and not by what is said of the try before', async () => {
    const message = 'upload failed, send again: the node has lost it';
    const refused = volume('UploadReady', { message });
    const lost = (await open({ read: inTurn(refused) })).awaitSucceeded(say);
    await assert.rejects(lost, { exitCode: 4, message: `DataVolume team-a/disk: ${message}` });
    const stale = await open({ read: inTurn(refused, refused, volume('UploadReady'), volume('Succeeded')) });
    await stale.awaitSucceeded(say);
  });

  it('looks for the words that the lifecycle says of a file that is refused', async () => {
    const workflow = await readFile(join(projectRoot(), 'workflows', 'upload.ts'), 'utf8');
    assert.match(workflow, /`upload failed, send again: \$\{/u);
  });
});
