import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { PassThrough } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { ApplicationFailure } from '../../activities/failures.js';
import { startTestGateway, uploadClaim, useTestGateway, type TestGateway } from './support.js';
import { createTusClient, MIB, type TusClient } from './tus.js';

/** Every byte is on its way to the node, and the connection is gone before its answer. */
async function breakAfterLastByte(
  tus: TusClient,
  gateway: TestGateway,
  path: string,
  content: Buffer,
): Promise<void> {
  const body = new PassThrough();
  const broken = tus.patch(path, 0, body, content.length);
  broken.catch(() => undefined);
  body.write(content);
  while (gateway.dataPort.sessions.get(tus.onlySession())?.durable !== content.length) await pause(5);
  body.destroy(new Error('the network is gone'));
  await broken.catch(() => undefined);
}

describe('resumable uploads at their end', function () {
  this.timeout(30_000);
  let gateway: TestGateway;
  let tus: TusClient;
  useTestGateway((given) => {
    gateway = given.gateway;
    tus = createTusClient(given);
  });

  it('tell a client that has not heard its last answer that all is there, and no other client', async () => {
    const path = await tus.created(5);
    assert.equal((await tus.patch(path, 0, Buffer.from('01234'))).status, 204);
    const finished = uploadClaim({ annotations: { 'cdi.kubevirt.io/storage.pod.phase': 'Succeeded' } });
    const other = await tus.created(5);
    gateway.claims.set('disk', finished);
    const told = await tus.head(path);
    assert.deepEqual([told.status, told.headers['upload-offset']], [200, '5']);
    assert.equal((await tus.head(other)).status, 410);
    const { status, text } = await tus.patch(other, 0, Buffer.from('abcde'));
    assert.equal(status, 410);
    assert.match(text, /already finished uploading/);
    assert.equal((await tus.create(5)).status, 410);
  });

  it('are not said to be complete when the claim was deleted while the disk came', async () => {
    const path = await tus.created(2 * MIB);
    const body = new PassThrough();
    body.write(randomBytes(MIB));
    const sent = tus.patch(path, 0, body, 2 * MIB);
    while (gateway.opened.length === 0) await pause(5);
    gateway.claims.delete('disk');
    body.end(randomBytes(MIB));
    const { status, text } = await sent;
    // for good: no client tries again
    assert.equal(status, 410);
    assert.match(text, /PVC disk was deleted while the upload came/);
  });

  describe('whose last byte has come', () => {
    const content = randomBytes(MIB);
    const refuse = {
      status: 422,
      body: { type: 'ChecksumMismatch', message: 'the file has another checksum' },
      afterBytes: content.length,
    };
    let path: string;

    beforeEach(async () => {
      path = await tus.created(content.length);
    });

    it('are not said to be there before the disk is judged', async () => {
      gateway.dataPort.mood.judgeMs = 3_000;
      await breakAfterLastByte(tus, gateway, path, content);
      const began = Date.now();
      const { status, headers } = await tus.head(path);
      assert.deepEqual([status, headers['upload-offset']], [200, String(content.length)]);
      assert.ok(Date.now() - began >= 500);
      assert.equal(gateway.dataPort.sessions.get(tus.onlySession())?.complete, true);
    });

    it('are told why they are refused, by HEAD too, which has no body', async () => {
      gateway.dataPort.mood.judgeMs = 500;
      gateway.dataPort.mood.refuse = refuse;
      await breakAfterLastByte(tus, gateway, path, content);
      for (let again = 0; again < 2; again += 1) {
        const { status, headers } = await tus.head(path);
        assert.equal(status, 400);
        assert.match(decodeURIComponent(String(headers['dvflow-reason'])), /the file has another checksum/);
        assert.match(String(headers['access-control-expose-headers']), /Dvflow-Reason/);
      }
    });

    it('are locked while it takes long, for a client that comes again', async () => {
      const other = await startTestGateway({ beside: gateway, parts: { verdictMs: 1_000 } });
      const durable = async () => ({ session: tus.onlySession(), offset: content.length, receiving: true });
      try {
        other.onLocate = durable;
        assert.equal((await tus.head(path, other)).status, 423);
        gateway.dataPort.mood.judgeMs = 6_000;
        await breakAfterLastByte(tus, gateway, path, content);
        // the node does not say complete yet, to whomever
        assert.equal((await tus.head(path, other)).status, 423);
        other.onLocate = undefined;
        assert.equal((await tus.head(path)).status, 200);
        assert.equal((await tus.head(path, other)).headers['upload-offset'], String(content.length));
      } finally {
        await other.close();
      }
    });

    for (const refused of [false, true]) {
      it(`are judged for a client that comes back when nobody does it any more: ${refused ? 'refused' : 'complete'}`, async () => {
        // as after a kill -9 of node and gateway
        await tus.patch(path, 0, content.subarray(0, 1));
        Object.assign(gateway.dataPort.sessions.get(tus.onlySession())!, { durable: content.length });
        if (refused) gateway.dataPort.mood.refuse = refuse;
        const other = await startTestGateway({ beside: gateway });
        try {
          const { status, headers } = await tus.head(path, other);
          assert.equal(status, refused ? 400 : 200);
          if (!refused) assert.equal(headers['upload-offset'], String(content.length));
          assert.equal(other.opened.length, 1);
        } finally {
          await other.close();
        }
      });
    }

    it('wait while the disk is being published', async () => {
      const publishing = { type: 'ResourceExists', message: 'the disk is complete: it is being published' };
      const other = await startTestGateway({ beside: gateway });
      other.onLocate = async () => await Promise.reject(ApplicationFailure.create(publishing));
      try {
        assert.equal((await tus.patch(path, 0, content)).status, 204);
        const answer = tus.head(path, other);
        await pause(300);
        const done = { annotations: { 'cdi.kubevirt.io/storage.pod.phase': 'Succeeded' } };
        gateway.claims.set('disk', uploadClaim(done));
        assert.equal((await answer).headers['upload-offset'], String(content.length));
      } finally {
        await other.close();
      }
    });
  });
});
