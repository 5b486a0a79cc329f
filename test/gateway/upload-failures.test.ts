import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { PassThrough } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { WorkflowNotFoundError } from '@temporalio/client';
import { permanentFailure } from '../../activities/failures.js';
import { startTestGateway, uploadClaim, useTestGateway, type TestGateway } from './support.js';
import { MIB, SYNC, fill, form, rawRequest } from './uploads.js';

type Claim = ReturnType<typeof uploadClaim>;

describe("CDI's upload endpoints say what went wrong", function () {
  this.timeout(30_000);
  let gateway: TestGateway;
  let token: string;
  useTestGateway((given) => ({ gateway, token } = given));

  it('400 with the reason when the image or the claim is at fault; the rest of the body is not waited for', async () => {
    const message = 'image needs 2147483648 bytes, claim team-a/disk offers 1012924416';
    const body = { type: 'LargerPVCRequired', message, retryable: false };
    gateway.dataPort.mood.refuse = { status: 422, body, afterBytes: MIB };
    const endless = new PassThrough();
    void fill(endless);
    const { status, text } = await gateway.send({
      path: SYNC,
      token,
      body: endless,
      headers: { 'content-length': String(60 * MIB) },
    });
    endless.destroy();
    assert.equal(status, 400);
    assert.equal(text, `Saving stream failed: ${message}`);
  });

  it('what they refuse of a form, to a client that listens only when it has sent all of it', async () => {
    const body = { type: 'ImageInvalid', message: 'qcow2 version 9 is not supported', retryable: false };
    gateway.dataPort.mood.refuse = { status: 422, body, afterBytes: MIB };
    const sent = form([{ name: 'file', content: Buffer.alloc(60 * MIB, 7) }]);
    const { socket, received } = await rawRequest(gateway, [
      'POST /v1beta1/upload-form HTTP/1.1',
      'Host: localhost',
      `Authorization: Bearer ${token}`,
      `Content-Type: ${sent.headers['content-type']}`,
      `Content-Length: ${sent.body.length}`,
    ]);
    await new Promise<void>((resolve, reject) => {
      socket.once('close', () => reject(new Error('the connection was cut')));
      socket.write(sent.body, () => resolve());
    });
    while (!received().includes('qcow2 version 9')) await pause(10);
    assert.match(received(), /^HTTP\/1\.1 400 /);
    // all of it has been read: the connection can be used again
    socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
    while (!received().includes('HTTP/1.1 200 OK')) await pause(10);
    socket.destroy();
  });

  for (const [what, after] of [
    ['deleted', () => undefined],
    [
      'being deleted',
      ({ metadata, ...rest }) => ({ ...rest, metadata: { ...metadata, deletionTimestamp: new Date() } }),
    ],
    ['replaced by another one', () => uploadClaim({ uid: 'another' })],
  ] as readonly (readonly [string, (claim: Claim) => Claim | undefined])[])
    it(`503 when its claim was ${what} while the disk came, complete as it is`, async () => {
      const body = new PassThrough();
      body.write(randomBytes(MIB));
      const sent = gateway.send({ path: SYNC, token, body });
      while (gateway.opened.length === 0) await pause(5);
      const left = after(gateway.claims.get('disk')!);
      if (left) gateway.claims.set('disk', left);
      else gateway.claims.delete('disk');
      body.end(randomBytes(MIB));
      const { status, text } = await sent;
      assert.equal(status, 503);
      assert.match(text, /PVC disk was deleted while the upload came/);
    });

  it('500, 503 and 409 for what is not the fault of the client', async () => {
    const refused = async (status: number, type: string): Promise<number> => {
      gateway.dataPort.mood.refuse = { status, body: { type, message: 'no' }, afterBytes: 0 };
      return (await gateway.send({ path: SYNC, token, body: 'x' })).status;
    };
    assert.equal(await refused(500, 'Unforeseen'), 500);
    assert.equal(await refused(500, 'NodeUnavailable'), 503);
    assert.equal(await refused(503, 'UploadTargetInUse'), 503);
    assert.equal(await refused(409, 'UploadInProgress'), 503);
    assert.equal(await refused(409, 'ResourceExists'), 409);
    assert.equal(await refused(408, 'SourceUnavailable'), 408);
  });

  it('what the workflow says, and 503 where there is none', async () => {
    const opening = async (error: Error): Promise<readonly [number, string]> => {
      gateway.onOpen = async () => await Promise.reject(error);
      const { status, text } = await gateway.send({ path: SYNC, token, body: 'x' });
      return [status, text];
    };
    const busy = permanentFailure('UploadTargetInUse', 'another upload is under way');
    assert.deepEqual(await opening(busy), [503, 'another upload is under way']);
    const none = new WorkflowNotFoundError('no such workflow', 'datavolume/a/b/c', undefined);
    assert.match((await opening(none)).join(' '), /^503 no upload is awaited/);
    // an error that nobody foresaw is for the log
    const [status, text] = await opening(new Error('secret'));
    assert.equal(status, 500);
    assert.doesNotMatch(text, /secret/);
  });

  it('502 when the data port cannot be reached, breaks off, or is somebody else', async () => {
    gateway.onOpen = async (_claim, { session }) => ({
      url: 'https://localhost:1/upload/x',
      session,
      offset: 0,
    });
    const answer = await gateway.send({ path: SYNC, token, body: 'x' });
    assert.equal(answer.status, 502);
    assert.match(answer.text, /^error in upload-proxy: .*ECONNREFUSED/);
    gateway.onOpen = undefined;
    gateway.dataPort.mood.cutAfterBytes = MIB;
    const broken = await gateway.send({ path: SYNC, token, body: randomBytes(4 * MIB) });
    assert.equal(broken.status, 502, broken.text);
    const stranger = await startTestGateway();
    try {
      gateway.onOpen = async (_claim, { session }) => ({ url: stranger.dataPort.url, session, offset: 0 });
      const other = await gateway.send({ path: SYNC, token, body: 'x' });
      assert.equal(other.status, 502);
      assert.match(other.text, /certificate|signature/);
    } finally {
      await stranger.close();
    }
  });

  it('400 to a form without a file, and to what is no form', async () => {
    const path = '/v1beta1/upload-form';
    const without = await gateway.send({
      path,
      token,
      ...form([{ name: 'note', content: Buffer.from('x') }]),
    });
    assert.equal(without.status, 400);
    assert.match(without.text, /no part named file/);
    const none = await gateway.send({ path, token, body: 'x', headers: { 'content-type': 'text/plain' } });
    assert.equal(none.status, 400);
    const bare = await gateway.send({
      path,
      token,
      body: 'x',
      headers: { 'content-type': 'multipart/form-data' },
    });
    assert.equal(bare.status, 400);
    const sent = form([{ name: 'file', content: randomBytes(MIB) }]);
    const cut = await gateway.send({
      path,
      token,
      headers: sent.headers,
      body: sent.body.subarray(0, -40),
    });
    assert.equal(cut.status, 400, cut.text);
    assert.ok([...gateway.dataPort.sessions.values()].every(({ complete }) => !complete));
    // and the next one is served
    gateway.opened.length = 0;
    assert.equal((await gateway.send({ path, token, ...sent })).status, 200);
  });

  it('400 to an empty body, and to more than any file of the claim has', async () => {
    const empty = await gateway.send({ path: SYNC, token, body: '' });
    assert.equal(empty.status, 400);
    assert.match(empty.text, /empty/);
    gateway.claims.set('disk', uploadClaim({ size: '1Mi' }));
    const headers = { 'content-length': String(81 * MIB) };
    const announced = await gateway.send({ path: SYNC, token, headers, body: new PassThrough() });
    assert.equal(announced.status, 400);
    assert.match(announced.text, /claim team-a\/disk asks for 1048576 bytes/);
    assert.equal(gateway.opened.length, 0);
    const endless = new PassThrough();
    void fill(endless);
    const chunked = await gateway.send({ path: SYNC, token, body: endless });
    endless.destroy();
    assert.equal(chunked.status, 400);
    assert.match(chunked.text, /larger than allowed/);
    assert.ok([...gateway.dataPort.sessions.values()].every(({ complete }) => !complete));
  });
});
