import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { PassThrough, Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { uploadClaim, useTestGateway, type TestGateway } from './support.js';
import { MIB, SYNC, form, rawRequest, uploaded } from './uploads.js';

describe("CDI's upload endpoints take a body", function () {
  this.timeout(30_000);
  let gateway: TestGateway;
  let token: string;
  useTestGateway((given) => ({ gateway, token } = given));

  for (const version of ['v1beta1', 'v1alpha1']) {
    for (const path of ['upload', 'upload-async']) {
      it(`by POST /${version}/${path}`, async () => {
        const body = randomBytes(3 * MIB);
        const answer = await gateway.send({ path: `/${version}/${path}`, token, body });
        assert.equal(answer.status, 200, answer.text);
        assert.deepEqual(await uploaded(gateway), body);
        assert.equal(gateway.opened[0]?.length, body.length);
        assert.equal(gateway.opened[0]?.contentType, 'kubevirt');
        assert.equal(gateway.dataPort.strangers, 0);
      });
    }
    for (const path of ['upload-form', 'upload-form-async']) {
      it(`by POST /${version}/${path}: the part named file`, async () => {
        const content = randomBytes(2 * MIB);
        const sent = form([
          { name: 'note', content: Buffer.from('before') },
          { name: 'other', content: randomBytes(100), file: 'other.bin' },
          { name: 'file', content, file: 'disk.img' },
          { name: 'after', content: Buffer.from('after') },
        ]);
        const answer = await gateway.send({ path: `/${version}/${path}`, token, ...sent });
        assert.equal(answer.status, 200, answer.text);
        assert.deepEqual(await uploaded(gateway), content);
        assert.equal(gateway.opened[0]?.length, undefined);
      });
    }
  }

  it('of unknown length, in chunks', async () => {
    const pieces = [randomBytes(MIB), randomBytes(100), randomBytes(MIB)];
    const answer = await gateway.send({ path: SYNC, token, body: Readable.from(pieces) });
    assert.equal(answer.status, 200, answer.text);
    assert.deepEqual(await uploaded(gateway), Buffer.concat(pieces));
    assert.equal(gateway.opened[0]?.length, undefined);
  });

  it("whatever its type: curl's default is that of a form", async () => {
    const body = Buffer.from('a=b&c=d'.repeat(1000));
    for (const type of [
      'application/x-www-form-urlencoded',
      'application/json',
      'text/plain',
      'nonsense',
      '',
    ]) {
      gateway.opened.length = 0;
      const answer = await gateway.send({ path: SYNC, token, body, headers: { 'content-type': type } });
      assert.equal(answer.status, 200, `${type}: ${answer.text}`);
      assert.deepEqual(await uploaded(gateway), body);
    }
  });

  it('of an archive, also as a form', async () => {
    const annotations = { 'cdi.kubevirt.io/storage.contentType': 'archive' };
    gateway.claims.set('disk', uploadClaim({ annotations }));
    const content = randomBytes(MIB);
    const answer = await gateway.send({
      path: '/v1beta1/upload-form',
      token,
      ...form([{ name: 'file', content }]),
    });
    assert.equal(answer.status, 200, answer.text);
    assert.deepEqual(await uploaded(gateway), content);
    assert.equal(gateway.opened[0]?.contentType, 'archive');
  });

  it('only once its first byte has come, and only then ask for a place', async () => {
    const body = new PassThrough();
    const answer = gateway.send({ path: SYNC, token, body, headers: { 'content-length': '5' } });
    await pause(300);
    assert.equal(gateway.opened.length, 0);
    body.write('a');
    while (gateway.opened.length === 0) await pause(10);
    body.end('bcde');
    assert.equal((await answer).status, 200);
  });

  it('after 100 Continue, which they say when the claim is ready, and not before', async () => {
    gateway.claims.set(
      'disk',
      uploadClaim({ annotations: { 'cdi.kubevirt.io/storage.pod.ready': 'false' } }),
    );
    const { socket, received } = await rawRequest(gateway, [
      `POST ${SYNC} HTTP/1.1`,
      'Host: localhost',
      `Authorization: Bearer ${token}`,
      'Content-Length: 5',
      'Expect: 100-continue',
    ]);
    await pause(300);
    assert.equal(received(), '');
    gateway.claims.set('disk', uploadClaim());
    while (!received().includes('100 Continue')) await pause(10);
    assert.equal(gateway.opened.length, 0);
    socket.write('abcde');
    while (!received().includes('200 OK')) await pause(10);
    assert.equal((await uploaded(gateway)).toString(), 'abcde');
    socket.destroy();
  });
});
