import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { startTestGateway, type Received, type TestGateway } from './support.js';
import { createTusClient, PATH, TUS } from './tus.js';
import { SYNC } from './uploads.js';

/** A form that does not come to its file. */
const FORM = { path: '/v1beta1/upload-form', type: 'multipart/form-data; boundary=b' };

describe('clients that have sent nothing', function () {
  this.timeout(30_000);
  let gateway: TestGateway;
  let token: string;
  beforeEach(async () => {
    gateway = await startTestGateway({ slots: 1 });
    token = await gateway.token();
  });
  afterEach(async () => {
    await gateway.close();
  });

  /** A POST that makes a resumable upload, and brings its first piece. */
  async function createWith(body: PassThrough | Buffer, length: number): Promise<Received> {
    const headers = {
      ...TUS,
      'upload-length': String(length),
      'content-type': 'application/offset+octet-stream',
      'content-length': String(length),
    };
    return await gateway.send({ path: PATH, token, headers, body });
  }

  it('take no slot by a POST of a resumable upload that is to bring bytes', async () => {
    const silent = new PassThrough();
    const waiting = createWith(silent, 5);
    waiting.catch(() => undefined);
    await pause(300);
    assert.equal(gateway.opened.length, 0);
    assert.equal((await gateway.send({ path: SYNC, token, body: 'x' })).status, 200);
    // and is served once they come
    silent.end('abcde');
    const { status, headers } = await waiting;
    assert.equal(status, 201);
    assert.equal(headers['upload-offset'], '5');
  });
  it('are few of one claim: those that wait for longest leave, and others have their places', async () => {
    const other = await gateway.claimToken('other');
    const flood = idle(gateway, token, 40);
    for (const { status, text, headers } of await flood.told(36)) {
      assert.equal(status, 503);
      assert.match(text, /4 newer uploads into the same claim wait .*: try again later/);
      assert.equal(headers['retry-after'], '5');
    }
    assert.equal((await gateway.send({ path: SYNC, token: other, body: 'x' })).status, 200);
    await flood.end();
  });

  it('do not keep out a client of the same claim that has come by another connection', async () => {
    const flood = idle(gateway, token, 8);
    await flood.told(4);
    assert.equal((await gateway.send({ path: SYNC, token, body: 'x' })).status, 200);
    await flood.end();
  });

  it('leave also where they have begun a form, or go on with a resumable upload', async () => {
    const tus = createTusClient({ gateway, token });
    const path = await tus.created(5);
    const [silent, ofForm] = [new PassThrough(), new PassThrough()];
    const waiting = tus.patch(path, 0, silent, 5);
    const headers = { 'content-type': FORM.type };
    const waitingForm = gateway.send({ path: FORM.path, token, body: ofForm, headers });
    ofForm.write('--b\r\n');
    await pause(300);
    const flood = idle(gateway, token, 4);
    for (const answer of [await waiting, await waitingForm]) {
      assert.equal(answer.status, 503, answer.text);
      assert.match(answer.text, /newer uploads into the same claim/);
      assert.equal(answer.headers['retry-after'], '5');
    }
    await flood.end();
    // nothing of it is lost
    assert.equal((await tus.patch(path, 0, Buffer.from('abcde'))).status, 204);
  });
});

/** Clients that announce a body and send none of it. */
function idle(gateway: TestGateway, token: string, count: number) {
  const bodies = Array.from({ length: count }, () => new PassThrough());
  const headers = { 'content-length': '2' };
  const told: Received[] = [];
  const answers = bodies.map(async (body) => {
    told.push(await gateway.send({ path: SYNC, token, body, headers }));
  });
  const ended = Promise.allSettled(answers);
  return {
    /** The first answers, whosever they are. */
    async told(many: number) {
      while (told.length < many) await pause(20);
      return told;
    },
    async end() {
      for (const body of bodies) body.destroy(new Error('gone'));
      await ended;
    },
  };
}
