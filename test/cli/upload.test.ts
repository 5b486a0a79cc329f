import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { sendFile, type Sending, type Sent } from '../../cli/upload/send.js';
import { CliError } from '../../cli/errors.js';
import { startTestGateway, uploadClaim, type TestGateway } from '../gateway/support.js';

const MIB = 1024 * 1024;

describe('dvflow upload', function () {
  this.timeout(30_000);
  let directory: string;
  let gateway: TestGateway;
  let content: Buffer;
  let file: string;
  let notices: string[];

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'dvflow-upload-'));
    gateway = await startTestGateway();
    content = randomBytes(5 * MIB);
    file = join(directory, 'disk.img');
    notices = [];
    await writeFile(file, content);
  });
  afterEach(async () => {
    await gateway.close();
    await rm(directory, { recursive: true });
  });

  async function send(change: Partial<Sending> = {}): Promise<Sent> {
    return await sendFile({
      file,
      endpoint: `https://localhost:${gateway.server.port}/tus/uploads`,
      target: 'claim-uid',
      ca: gateway.authority.ca,
      token: () => gateway.token(),
      stateDirectory: join(directory, 'state'),
      onProgress: () => undefined,
      notice: (text) => notices.push(text),
      signal: new AbortController().signal,
      ...change,
    });
  }

  const session = () => [...gateway.dataPort.sessions.entries()][0] ?? ['', undefined];
  const durable = () => session()[1]?.durable ?? 0;

  it('sends a file, and forgets it', async () => {
    const checksum = `sha256:${'0'.repeat(64)}`;
    const sent = await send({ checksum });
    assert.deepEqual(sent, { bytes: content.length, bytesSent: content.length, resumed: false, retries: 0 });
    assert.deepEqual(await gateway.dataPort.content(session()[0]), content);
    assert.equal(gateway.opened[0]?.checksum, checksum);
    assert.deepEqual(readdirSync(join(directory, 'state')), []);
  });

  it('goes on by itself after a node and a gateway that go away, and sends hardly anything twice', async () => {
    gateway.dataPort.mood.slowMs = 5;
    gateway.dataPort.mood.cutAfterBytes = 2 * MIB;
    const sending = send();
    while (durable() < 2 * MIB) await pause(5);
    gateway.dataPort.mood.cutAfterBytes = undefined;
    const { port } = gateway.server;
    while (durable() < 3 * MIB) await pause(5);
    // as a rollout does: the new one has nothing of the old one but the address
    gateway.dataPort.mood.cutAfterBytes = 0;
    const stopped = gateway.server.close();
    await stopped;
    gateway.dataPort.mood.cutAfterBytes = undefined;
    const next = await startTestGateway({ beside: gateway, port });
    try {
      const { bytes, bytesSent, retries } = await sending;
      assert.equal(bytes, content.length);
      assert.ok(retries >= 2, `${retries} retries`);
      assert.ok(bytesSent <= content.length * 1.9, `${bytesSent} bytes sent`);
      assert.ok(notices.length >= 2);
      assert.deepEqual(await gateway.dataPort.content(session()[0]), content);
      assert.equal(gateway.dataPort.sessions.size, 1);
    } finally {
      await next.close();
    }
  });

  it('that was interrupted goes on when it is called again; into another claim, or another file, it does not', async () => {
    content = randomBytes(16 * MIB);
    await writeFile(file, content);
    gateway.dataPort.mood.slowMs = 20;
    const interrupt = new AbortController();
    const first = send({ signal: interrupt.signal });
    first.catch(() => undefined);
    while (durable() < MIB) await pause(5);
    interrupt.abort(new CliError('interrupted', 130));
    await assert.rejects(first, /interrupted/);
    await pause(200);
    gateway.dataPort.mood.slowMs = 0;
    const before = durable();
    assert.ok(before >= MIB && before < content.length);
    const second = await send();
    assert.equal(second.resumed, true);
    assert.ok(
      second.bytesSent <= content.length - before,
      `${second.bytesSent} of ${content.length - before}`,
    );
    assert.equal(gateway.dataPort.sessions.size, 1);
    assert.deepEqual(await gateway.dataPort.content(session()[0]), content);
    assert.equal((await send({ target: 'another' })).resumed, false);
    assert.equal(gateway.dataPort.sessions.size, 2);
  });

  it('ends at once where no other try helps, with the reason', async () => {
    const body = { type: 'ImageInvalid', message: 'not an image' };
    gateway.dataPort.mood.refuse = { status: 422, body, afterBytes: 0 };
    await assert.rejects(send(), (error: CliError) => {
      assert.equal(error.exitCode, 3);
      assert.match(error.message, /the upload was refused: Saving stream failed: not an image/);
      return true;
    });
    assert.equal(notices.length, 0);
    gateway.claims.set('disk', uploadClaim({ size: '1' }));
    await writeFile(file, Buffer.alloc(0));
    await assert.rejects(send(), /is empty/);
  });

  it('asks for another token when one is too old', async () => {
    let asked = 0;
    const token = async (): Promise<string> => {
      asked += 1;
      return asked === 1 ? 'a.b.c' : await gateway.token();
    };
    const sent = await send({ token });
    assert.equal(sent.retries, 1);
    assert.equal(asked, 2);
  });
});
