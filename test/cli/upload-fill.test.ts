import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CDI_ANNOTATIONS } from '../../activities/kubernetes/names.js';
import { CliError } from '../../cli/errors.js';
import { openUploadCluster } from '../../cli/upload/cluster.js';
import { fill, type Filled, type Filling } from '../../cli/upload/fill.js';
import { openSourceFile } from '../../cli/upload/source-file.js';
import { startTestGateway, uploadClaim, type TestGateway } from '../gateway/support.js';

const MIB = 1024 * 1024;
const COMPLETE = /^CliError: DataVolume team-a\/disk is complete already: delete it, or choose another name$/;

describe('dvflow upload, called again', function () {
  this.timeout(30_000);
  let directory: string;
  let file: string;
  let gateway: TestGateway;
  /** What the DataVolume says of itself; an error is Kubernetes' own. */
  let phase: string | Error;
  /** What it says of the last client. */
  let message: string;
  let interrupt: AbortController;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'dvflow-fill-'));
    file = join(directory, 'disk.img');
    await writeFile(file, randomBytes(MIB));
    gateway = await startTestGateway();
    phase = 'UploadReady';
    message = '';
    interrupt = new AbortController();
  });
  afterEach(async () => {
    await gateway.close();
    await rm(directory, { recursive: true });
  });

  const api = {
    async getNamespacedCustomObject() {
      if (typeof phase !== 'string') throw phase;
      return { metadata: { uid: 'the-uid' }, status: { phase, conditions: [{ type: 'Running', message }] } };
    },
    createNamespacedCustomObject: async () => ({ status: { token: await gateway.token() } }),
  };

  async function run(change: Partial<Filling> = {}): Promise<Filled> {
    interrupt = new AbortController();
    const { signal } = interrupt;
    const place = { namespace: 'team-a', name: 'disk', signal };
    const source = await openSourceFile(file);
    return await fill({
      cluster: await openUploadCluster({ makeApiClient: () => api } as never, place),
      source,
      manifest: undefined,
      checksum: async () => undefined,
      endpoint: async () => `https://localhost:${gateway.server.port}/tus/uploads`,
      ca: gateway.authority.ca,
      stateDirectory: join(directory, 'state'),
      view: { say, show: () => undefined },
      signal,
      ...change,
    }).finally(() => source.close());
  }

  let hear: (text: string) => void = () => undefined;
  const say = (text: string): void => hear(text);

  /** The command is interrupted when it says this. */
  async function runUntil(words: RegExp, then: () => void = () => undefined): Promise<void> {
    hear = (text) => {
      if (!words.test(text)) return;
      then();
      interrupt.abort(new CliError('interrupted', 130));
    };
    await assert.rejects(run(), /interrupted/);
    hear = () => undefined;
  }

  /** What the claim tells once the disk is published. */
  function publish(): void {
    phase = 'Succeeded';
    const claim = uploadClaim();
    const annotations = { ...claim.metadata?.annotations, [CDI_ANNOTATIONS.podPhase]: 'Succeeded' };
    gateway.claims.set('disk', { ...claim, metadata: { ...claim.metadata, annotations } });
  }

  const asked = (): number => gateway.opened.length + gateway.located.length;

  it('says that the disk is there when it had sent all of it', async () => {
    await runUntil(/^sent; waiting for the claim$/u);
    const before = asked();
    publish();
    assert.deepEqual(await run(), { bytes: MIB, bytesSent: 0, resumed: true, retries: 0 });
    assert.equal(asked(), before);
    // nothing is known of it any more
    assert.deepEqual(readdirSync(join(directory, 'state')), []);
    await assert.rejects(run(), COMPLETE);
  });

  it('goes on to the end when it had sent all of it, and the claim is not there yet', async () => {
    await runUntil(/^sent; waiting for the claim$/u);
    hear = (text) => void (text.startsWith('sent;') && publish());
    assert.equal((await run()).bytesSent, 0);
    assert.equal(gateway.dataPort.sessions.size, 1);
  });

  it('asks for the upload when the answer to its last byte was lost', async () => {
    gateway.dataPort.mood.cutAfterBytes = 0;
    await runUntil(/trying again$/u);
    const [session] = gateway.dataPort.sessions.values();
    assert.ok(session);
    session.complete = true;
    publish();
    const { bytesSent, resumed } = await run();
    assert.deepEqual([bytesSent, resumed], [0, true]);
  });

  it('refuses a disk that is complete by another upload, or of another file', async () => {
    gateway.dataPort.mood.cutAfterBytes = 0;
    await runUntil(/trying again$/u);
    publish();
    await assert.rejects(run(), COMPLETE);
    // nor is one known that never began
    await assert.rejects(run(), COMPLETE);
    gateway.claims.set('disk', uploadClaim());
    gateway.dataPort.mood.cutAfterBytes = undefined;
    phase = 'UploadReady';
    await runUntil(/^sent; waiting for the claim$/u);
    publish();
    const checksum = async (): Promise<string> => `sha256:${'0'.repeat(64)}`;
    await assert.rejects(run({ checksum }), COMPLETE);
    await appendFile(file, 'more');
    await assert.rejects(run(), COMPLETE);
  });

  it('goes on while Kubernetes does not answer, before the first byte and after the last', async () => {
    const away = Object.assign(new TypeError('fetch failed'), { cause: { code: 'ECONNRESET' } });
    const said: string[] = [];
    const next = [away, 'UploadReady', away, 'Succeeded'];
    phase = 'Pending';
    hear = (text) => {
      said.push(text);
      phase = next.shift() ?? phase;
    };
    assert.equal((await run()).bytes, MIB);
    const words = 'Kubernetes does not answer (ECONNRESET): trying again';
    assert.deepEqual(said, ['DataVolume team-a/disk: Pending', words, 'sent; waiting for the claim', words]);
  });

  it('takes a complete disk for its own no more when its file was refused after it was sent', async () => {
    message = 'upload failed, send again: the node has lost it';
    await assert.rejects(run(), /: upload failed, send again: the node has lost it$/);
    // by somebody else
    gateway.dataPort.sessions.clear();
    publish();
    await assert.rejects(run(), COMPLETE);
  });
});
