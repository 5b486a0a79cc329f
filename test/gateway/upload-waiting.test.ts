import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { startTestGateway, type Received, type TestGateway } from './support.js';
import { PATH, TUS } from './tus.js';
import { SYNC } from './uploads.js';

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
});
