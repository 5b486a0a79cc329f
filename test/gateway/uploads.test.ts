import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { once } from 'node:events';
import { createHash, randomBytes } from 'node:crypto';
import { connect } from 'node:tls';
import { PassThrough, Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { WorkflowNotFoundError } from '@temporalio/client';
import { permanentFailure } from '../../activities/failures.js';
import { readFormFile } from '../../workers/gateway/form-file.js';
import { ALICE, startTestGateway, uploadClaim, type TestGateway } from './support.js';

type Claim = ReturnType<typeof uploadClaim>;

const MIB = 1024 * 1024;
const SYNC = '/v1beta1/upload';

/** A form with these parts. */
function form(parts: readonly { readonly name: string; readonly content: Buffer; readonly file?: string }[]) {
  const boundary = 'the-boundary';
  const pieces = parts.flatMap(({ name, content, file }) => {
    const fileName =
      file === undefined ? '' : `; filename="${file}"\r\nContent-Type: application/octet-stream`;
    return [
      Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="${name}"${fileName}\r\n\r\n`),
      content,
      Buffer.from('\r\n'),
    ];
  });
  return {
    headers: { 'content-type': `multipart/form-data; boundary=${boundary}` },
    body: Buffer.concat([...pieces, Buffer.from(`--${boundary}--\r\n`)]),
  };
}

describe("CDI's upload endpoints", function () {
  this.timeout(30_000);
  let gateway: TestGateway;
  let token: string;

  beforeEach(async () => {
    gateway = await startTestGateway();
    token = await gateway.token();
  });
  afterEach(async () => {
    await gateway.close();
  });

  /** The one session that was opened, and what it holds. */
  async function uploaded(): Promise<Buffer> {
    assert.equal(gateway.opened.length, 1);
    return await gateway.dataPort.content(gateway.opened[0]!.session);
  }

  describe('take a body', () => {
    for (const version of ['v1beta1', 'v1alpha1']) {
      for (const path of ['upload', 'upload-async']) {
        it(`by POST /${version}/${path}`, async () => {
          const body = randomBytes(3 * MIB);
          const answer = await gateway.send({ path: `/${version}/${path}`, token, body });
          assert.equal(answer.status, 200, answer.text);
          assert.deepEqual(await uploaded(), body);
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
          assert.deepEqual(await uploaded(), content);
          assert.equal(gateway.opened[0]?.length, undefined);
        });
      }
    }

    it('of unknown length, in chunks', async () => {
      const pieces = [randomBytes(MIB), randomBytes(100), randomBytes(MIB)];
      const answer = await gateway.send({ path: SYNC, token, body: Readable.from(pieces) });
      assert.equal(answer.status, 200, answer.text);
      assert.deepEqual(await uploaded(), Buffer.concat(pieces));
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
        assert.deepEqual(await uploaded(), body);
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
      assert.deepEqual(await uploaded(), content);
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
      assert.equal((await uploaded()).toString(), 'abcde');
      socket.destroy();
    });
  });

  describe("answer as CDI's proxy does", () => {
    const cases: readonly [what: string, authorization: string | undefined][] = [
      ['no token', undefined],
      ['another scheme', 'Basic YTpi'],
      ['padding', 'Bearer abc='],
      ['two words', 'Bearer a b'],
    ];
    for (const [what, authorization] of cases) {
      it(`400 to ${what}`, async () => {
        const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
        assert.equal((await gateway.send({ path: SYNC, body: 'x', headers })).status, 400);
      });
    }

    it('401 to a token that is not one, or was made for a claim of this name that is gone', async () => {
      assert.equal((await gateway.send({ path: SYNC, token: 'a.b.c', body: 'x' })).status, 401);
      gateway.claims.set('disk', uploadClaim({ uid: 'another-uid' }));
      const answer = await gateway.send({ path: SYNC, token, body: 'x' });
      assert.equal(answer.status, 401);
      assert.match(answer.text, /another claim of the name disk/);
    });

    it('401 to a token made before there was a claim, unless its DataVolume controls the claim', async () => {
      const early = await gateway.tokens.issue({ namespace: 'team-a', name: 'disk' });
      assert.equal((await gateway.send({ path: SYNC, token: early, body: 'x' })).status, 401);
      const owned = await gateway.tokens.issue({
        namespace: 'team-a',
        name: 'disk',
        dataVolumeUid: 'dv-uid',
      });
      assert.equal((await gateway.send({ path: SYNC, token: owned, body: 'x' })).status, 401);
      const claim = uploadClaim();
      const owner = {
        apiVersion: 'cdi.kubevirt.io/v1beta1',
        kind: 'DataVolume',
        name: 'disk',
        controller: true,
      };
      claim.metadata!.ownerReferences = [{ ...owner, uid: 'dv-uid' }];
      gateway.claims.set('disk', claim);
      gateway.onOpen = async (opening, asked) => {
        assert.equal(opening.dataVolumeUid, 'dv-uid');
        gateway.dataPort.open(asked.session, asked.length);
        return { url: gateway.dataPort.url, session: asked.session, offset: 0 };
      };
      assert.equal((await gateway.send({ path: SYNC, token: owned, body: 'x' })).status, 200);
    });

    it("503 with CDI's words while the claim takes nothing", async () => {
      const refused = async (): Promise<string> => {
        const { status, text, headers } = await gateway.send({ path: SYNC, token, body: 'x' });
        assert.equal(status, 503);
        assert.equal(headers['retry-after'], '5');
        return text;
      };
      const annotated = (annotations: Record<string, string | undefined>): void => {
        gateway.claims.set('disk', uploadClaim({ annotations }));
      };
      gateway.claims.delete('disk');
      assert.equal(await refused(), "rejecting Upload Request for PVC disk that doesn't exist");
      annotated({ 'cdi.kubevirt.io/storage.upload.target': undefined });
      assert.equal(await refused(), 'PVC disk is not an upload target');
      annotated({ 'cdi.kubevirt.io/storage.pod.phase': 'Succeeded' });
      assert.equal(await refused(), 'rejecting Upload Request for PVC disk that already finished uploading');
      annotated({ 'cdi.kubevirt.io/storage.contentType': '<b>iso</b>' });
      assert.equal(
        await refused(),
        'rejecting upload request for PVC disk - upload content-type &lt;b&gt;iso&lt;/b&gt; is invalid',
      );
    });

    it('503 when the claim is not ready within ten seconds', async () => {
      gateway.claims.set(
        'disk',
        uploadClaim({ annotations: { 'cdi.kubevirt.io/storage.pod.ready': 'false' } }),
      );
      const started = Date.now();
      const { status, text } = await gateway.send({ path: SYNC, token, body: 'x' });
      assert.equal(status, 503);
      assert.match(text, /context deadline exceeded/);
      assert.ok(Date.now() - started >= 9_500);
    });

    it('200 to HEAD of the asynchronous paths, 404 to that of the others and to other methods', async () => {
      const head = { method: 'HEAD', token };
      for (const version of ['v1beta1', 'v1alpha1']) {
        assert.equal((await gateway.send({ ...head, path: `/${version}/upload-async` })).status, 200);
        assert.equal((await gateway.send({ ...head, path: `/${version}/upload-form-async` })).status, 200);
        assert.equal((await gateway.send({ ...head, path: `/${version}/upload` })).status, 404);
      }
      for (const method of ['GET', 'PUT', 'PATCH', 'DELETE'])
        assert.equal((await gateway.send({ method, token, path: SYNC })).status, 404, method);
      assert.equal((await gateway.send({ method: 'HEAD', path: '/v1beta1/upload-async' })).status, 400);
      assert.equal((await gateway.send({ token, path: '/v1beta1/upload-archive', body: 'x' })).status, 404);
      assert.equal((await gateway.send({ token, path: '/v1/upload', body: 'x' })).status, 404);
    });

    it('OK to /healthz, and 200 to a preflight from anywhere', async () => {
      assert.equal((await gateway.send({ method: 'GET', path: '/healthz' })).text, 'OK');
      const headers = {
        origin: 'https://console.example',
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization',
      };
      const preflight = await gateway.send({ method: 'OPTIONS', path: SYNC, headers });
      assert.equal(preflight.status, 200);
      assert.equal(preflight.headers['access-control-allow-origin'], '*');
      assert.match(String(preflight.headers['access-control-allow-methods']), /POST/);
      assert.match(String(preflight.headers['access-control-allow-headers']), /authorization/);
      const { origin } = headers;
      const answer = await gateway.send({ path: SYNC, token, body: 'x', headers: { origin } });
      assert.equal(answer.headers['access-control-allow-origin'], '*');
    });
  });

  describe('say what went wrong', () => {
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

    it('400 to an empty body, and to more than the claim can hold', async () => {
      const empty = await gateway.send({ path: SYNC, token, body: '' });
      assert.equal(empty.status, 400);
      assert.match(empty.text, /empty/);
      gateway.claims.set('disk', uploadClaim({ size: '1Mi' }));
      const headers = { 'content-length': String(80 * MIB) };
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

  describe('survive their clients', () => {
    it('that vanish: the data port sees a break, never an end', async () => {
      const { socket } = await rawRequest(gateway, [
        `POST ${SYNC} HTTP/1.1`,
        'Host: localhost',
        `Authorization: Bearer ${token}`,
        'Content-Length: 1000000',
      ]);
      socket.write(randomBytes(200_000));
      while (![...gateway.dataPort.sessions.values()].some(({ durable }) => durable === 200_000))
        await pause(10);
      socket.destroy();
      await pause(200);
      assert.ok([...gateway.dataPort.sessions.values()].every(({ complete }) => !complete));
      // its slot is free again
      for (let i = 0; i < 5; i += 1)
        assert.equal((await gateway.send({ path: SYNC, token, body: 'x' })).status, 200);
    });

    it('that vanish in the middle of a chunk', async () => {
      const { socket } = await rawRequest(gateway, [
        `POST ${SYNC} HTTP/1.1`,
        'Host: localhost',
        `Authorization: Bearer ${token}`,
        'Transfer-Encoding: chunked',
      ]);
      socket.write('5\r\nabcde\r\n');
      while (![...gateway.dataPort.sessions.values()].some(({ durable }) => durable === 5)) await pause(10);
      socket.end(); // an orderly close, without the last chunk
      await once(socket, 'close');
      await pause(100);
      assert.ok([...gateway.dataPort.sessions.values()].every(({ complete }) => !complete));
    });

    it('that wait for a place and leave', async () => {
      const left = Promise.withResolvers<void>();
      gateway.onOpen = async (_claim, _asked, signal) => {
        await once(signal, 'abort');
        left.resolve();
        throw signal.reason;
      };
      const { socket } = await rawRequest(gateway, [
        `POST ${SYNC} HTTP/1.1`,
        'Host: localhost',
        `Authorization: Bearer ${token}`,
        'Content-Length: 1000000',
      ]);
      socket.write('abc');
      await pause(200);
      socket.destroy();
      await left.promise;
    });

    it('that are more than there are slots', async () => {
      const bodies = Array.from({ length: 4 }, () => new PassThrough());
      const headers = { 'content-length': '2' };
      const answers = bodies.map((body) => gateway.send({ path: SYNC, token, body, headers }));
      for (const body of bodies) body.write('a');
      while (gateway.opened.length < 4) await pause(10);
      const fifth = await gateway.send({ path: SYNC, token, body: 'x' });
      assert.equal(fifth.status, 503);
      assert.match(fifth.text, /4 uploads are under way/);
      for (const body of bodies) body.end('b');
      for (const answer of answers) assert.equal((await answer).status, 200);
      assert.equal((await gateway.send({ path: SYNC, token, body: 'x' })).status, 200);
    });

    it('that are silent before the file of their form, or never come to it', async () => {
      const type = 'multipart/form-data; boundary=b';
      const silent = Object.assign(new PassThrough(), { headers: {} }) as unknown as IncomingMessage;
      const began = Date.now();
      await assert.rejects(readFormFile(silent, type, 200), { status: 408 });
      assert.ok(Date.now() - began < 2_000);
      const trickle = Object.assign(new PassThrough(), { headers: {} });
      const reading = readFormFile(trickle as unknown as IncomingMessage, type, 400);
      for (const piece of [
        '--b\r\n',
        'Content-Disposition: ',
        'form-data; name="file"; filename="x"\r\n\r\n',
        'x',
      ]) {
        await pause(200);
        trickle.write(piece);
      }
      await reading;
      const path = '/v1beta1/upload-form';
      const parts = Array.from({ length: 3 }, () => ({ name: 'note', content: Buffer.alloc(MIB) }));
      const long = await gateway.send({
        path,
        token,
        ...form([...parts, { name: 'file', content: Buffer.from('x') }]),
      });
      assert.equal(long.status, 400);
      assert.match(long.text, /no part named file within 1114112 bytes/);
      assert.equal(gateway.opened.length, 0);
    });

    it('that wait in great numbers before they send anything', async () => {
      const headers = { 'content-length': '2' };
      const bodies = Array.from({ length: 64 }, () => new PassThrough());
      const answers = bodies.map((body) => gateway.send({ path: SYNC, token, body, headers }));
      const refused = async (): Promise<boolean> => {
        const { status, text } = await gateway.send({ path: SYNC, token, body: 'x' });
        return status === 503 && /64 uploads that have sent nothing wait/.test(text);
      };
      while (!(await refused())) await pause(50);
      for (const body of bodies) body.destroy(new Error('gone'));
      await Promise.allSettled(answers);
      while (await refused()) await pause(50);
    });

    it('at the pace of the disk: what is not taken is not read', async () => {
      gateway.dataPort.mood.slowMs = 50;
      const body = new PassThrough();
      let given = 0;
      const count = fill(body, (bytes) => (given += bytes), 40 * MIB);
      const answer = gateway.send({
        path: SYNC,
        token,
        body,
        headers: { 'content-length': String(40 * MIB) },
      });
      await pause(1_000);
      const taken = [...gateway.dataPort.sessions.values()][0]?.durable ?? 0;
      // buffers of two sockets at both ends, and nothing more
      assert.ok(given - taken < 20 * MIB, `${given - taken} bytes are in between`);
      gateway.dataPort.mood.slowMs = 0;
      await count;
      assert.equal((await answer).status, 200);
      const hash = createHash('sha256')
        .update(await uploaded())
        .digest('hex');
      assert.equal(
        hash,
        createHash('sha256')
          .update(Buffer.alloc(40 * MIB, 7))
          .digest('hex'),
      );
    });
  });

  it('renew the token of an upload that is under way', async () => {
    const path = '/v1beta1/upload-token';
    gateway.claims.set(
      'disk',
      uploadClaim({ annotations: { 'cdi.kubevirt.io/storage.pod.ready': 'false' } }),
    );
    const { status, text } = await gateway.send({ path, token });
    assert.equal(status, 200, text);
    const renewed = (JSON.parse(text) as { token: string }).token;
    const { claimUid, holder } = await gateway.tokens.verify(renewed);
    assert.deepEqual([claimUid, holder], ['claim-uid', ALICE]);
    assert.deepEqual(gateway.reviewed.at(-1), {
      ...ALICE,
      resourceAttributes: {
        namespace: 'team-a',
        verb: 'create',
        group: 'upload.cdi.kubevirt.io',
        version: 'v1beta1',
        resource: 'uploadtokenrequests',
      },
    });
    assert.equal((await gateway.send({ path, token: 'a.b.c' })).status, 401);
    gateway.claims.set(
      'disk',
      uploadClaim({ annotations: { 'cdi.kubevirt.io/storage.pod.phase': 'Succeeded' } }),
    );
    assert.equal((await gateway.send({ path, token })).status, 503);
  });

  it('renew no token of whoever has lost the right, or is not known', async () => {
    const path = '/v1beta1/upload-token';
    gateway.denied.add('alice');
    const { status, text } = await gateway.send({ path, token });
    assert.equal(status, 403);
    assert.match(text, /user &quot;alice&quot; may not upload|user "alice" may not upload/);
    const nobody = await gateway.tokens.issue({ namespace: 'team-a', name: 'disk', claimUid: 'claim-uid' });
    assert.equal((await gateway.send({ path, token: nobody })).status, 403);
    // a header has an end: who is in very many groups asks for a new token instead
    const groups = Array.from({ length: 500 }, (_, index) => `group-of-many-${index}`);
    const holder = { ...ALICE, groups };
    const many = await gateway.tokens.issue({
      namespace: 'team-a',
      name: 'disk',
      claimUid: 'claim-uid',
      holder,
    });
    assert.ok(many.length < 2_000);
  });
});

/** A connection on which a request's head was sent. */
async function rawRequest(gateway: TestGateway, head: readonly string[]) {
  const socket = connect({ host: 'localhost', port: gateway.server.port, ca: gateway.authority.ca });
  await once(socket, 'secureConnect');
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
  socket.on('error', () => undefined);
  socket.write(`${head.join('\r\n')}\r\n\r\n`);
  return { socket, received: () => text };
}

/** Writes as fast as it is taken; ends after so many bytes. */
async function fill(
  into: PassThrough,
  written: (bytes: number) => void = () => undefined,
  total = Number.POSITIVE_INFINITY,
): Promise<void> {
  const piece = Buffer.alloc(64 * 1024, 7);
  into.on('error', () => undefined);
  into.setMaxListeners(0);
  for (let done = 0; done < total && !into.destroyed; done += piece.length) {
    written(piece.length);
    if (!into.write(piece))
      await Promise.race([once(into, 'drain'), once(into, 'close')]).catch(() => undefined);
  }
  into.end();
}
