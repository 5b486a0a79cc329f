import assert from 'node:assert/strict';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { PassThrough } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { DefaultHttpStack, Upload } from 'tus-js-client';
import { ApplicationFailure } from '../../activities/failures.js';
import { createTokens } from '../../workers/gateway/tokens.js';
import { nameUpload } from '../../workers/gateway/tus/upload-id.js';
import { UploadError } from '../../workers/gateway/upload-failures.js';
import { uploadClaim, useTestGateway, type TestGateway } from './support.js';
import { createTusClient, MIB, PATH, TUS, type TusClient } from './tus.js';

describe('resumable uploads', function () {
  this.timeout(30_000);
  let gateway: TestGateway;
  let tus: TusClient;
  useTestGateway((given) => {
    gateway = given.gateway;
    tus = createTusClient(given);
  });

  it('are made, told of and finished as the protocol has it', async () => {
    const content = randomBytes(3 * MIB);
    const path = await tus.created(content.length, { filename: 'disk.qcow2' });
    // a place is asked for when bytes come, not before
    assert.equal(gateway.opened.length, 0);
    const first = await tus.patch(path, 0, content.subarray(0, MIB));
    assert.equal(first.status, 204, first.text);
    assert.equal(first.headers['upload-offset'], String(MIB));
    const middle = await tus.head(path);
    assert.equal(middle.status, 200);
    assert.equal(middle.headers['upload-offset'], String(MIB));
    assert.equal(middle.headers['upload-length'], String(content.length));
    assert.equal(middle.headers['cache-control'], 'no-store');
    assert.match(String(middle.headers['upload-metadata']), /^filename /);
    const last = await tus.patch(path, MIB, content.subarray(MIB));
    assert.equal(last.status, 204, last.text);
    assert.equal(last.headers['upload-offset'], String(content.length));
    assert.deepEqual(await gateway.dataPort.content(tus.onlySession()), content);
    assert.equal(gateway.opened[0]?.resumable, true);
    assert.equal(gateway.opened[0]?.length, content.length);
    // the answer may have been lost: whoever asks again is told that all is there
    assert.equal((await tus.head(path)).headers['upload-offset'], String(content.length));
  });

  it('hand the checksum of the whole file on, and refuse what is none', async () => {
    const checksum = `sha256:${createHash('sha256').update('x').digest('hex')}`;
    await tus.patch(await tus.created(1, { checksum }), 0, Buffer.from('x'));
    assert.equal(gateway.opened[0]?.checksum, checksum);
    for (const bad of ['sha256:abc', 'crc32:00000000', checksum.slice(7), '']) {
      const { status, text } = await tus.create(1, { checksum: bad });
      assert.equal(status, 400, bad);
      assert.match(text, /checksum|Invalid/);
    }
  });

  it('say where a page of another origin may send what, without a token', async () => {
    const headers = {
      origin: 'https://console.example',
      'access-control-request-method': 'PATCH',
      'access-control-request-headers': 'authorization,tus-resumable,upload-offset,content-type',
    };
    for (const path of [PATH, `${PATH}/some-id`]) {
      const answer = await gateway.send({ method: 'OPTIONS', path, headers });
      assert.equal(answer.status, 204);
      assert.equal(answer.headers['access-control-allow-origin'], '*');
      assert.match(String(answer.headers['access-control-allow-methods']), /PATCH/);
      assert.match(String(answer.headers['access-control-allow-headers']), /Authorization.*Upload-Offset/);
      assert.equal(answer.headers['tus-version'], '1.0.0');
      assert.equal(answer.headers['tus-extension'], 'creation,expiration');
    }
    // what is refused can be read by the page, too
    const refused = await gateway.send({ path: PATH, headers: { ...TUS, ...headers, 'upload-length': '1' } });
    assert.equal(refused.status, 400);
    assert.equal(refused.headers['access-control-allow-origin'], '*');
  });

  it('belong to the claim of their token, and to no other of its name', async () => {
    const path = await tus.created(10);
    gateway.claims.set('disk', uploadClaim({ uid: 'another-uid' }));
    tus.token = await gateway.token();
    assert.equal((await tus.head(path)).status, 404);
    assert.equal((await tus.patch(path, 0, Buffer.from('0123456789'))).status, 404);
    assert.equal(gateway.opened.length, 0);
    for (const name of ['nonsense', 'W10', Buffer.from('["a b","u",1,1,{}]').toString('base64url')])
      assert.equal((await tus.head(`${PATH}/${name}`)).status, 404, name);
    assert.equal((await gateway.send({ method: 'HEAD', path, headers: TUS })).status, 400);
    assert.equal((await gateway.send({ method: 'HEAD', path, token: 'a.b.c', headers: TUS })).status, 401);
  });

  it('end after a week', async () => {
    const of = (created: number): string =>
      `${PATH}/${nameUpload({ session: randomUUID(), claimUid: 'claim-uid', length: 5, created, metadata: {} })}`;
    const old = of(Date.now() - 8 * 86_400_000);
    assert.equal((await tus.head(old)).status, 410);
    assert.equal((await tus.patch(old, 0, Buffer.from('01234'))).status, 410);
    const { headers } = await tus.create(5);
    assert.ok(Date.parse(String(headers['upload-expires'])) > Date.now() + 6 * 86_400_000);
  });

  it('tell what is wrong, and nothing is lost where it can be cured', async () => {
    gateway.claims.set('disk', uploadClaim({ size: '1Mi' }));
    const large = await tus.create(81 * MIB);
    assert.equal(large.status, 413);
    assert.match(
      large.text,
      /^an upload of 84934656 bytes .* claim team-a\/disk asks for 1048576 bytes, .* at most 83886080 bytes/,
    );
    assert.equal((await tus.create(0)).status, 400);
    // the volume of a Bound claim may be larger than the claim asks for
    const bound = { phase: 'Bound', capacity: { storage: '128Mi' } };
    gateway.claims.set('disk', { ...uploadClaim({ size: '1Mi' }), status: bound });
    assert.equal((await tus.create(81 * MIB)).status, 201);
    gateway.claims.set('disk', uploadClaim());
    const path = await tus.created(2 * MIB);
    const body = { type: 'UploadInProgress', message: 'another upload is being received' };
    gateway.dataPort.mood.refuse = { status: 409, body, afterBytes: 0 };
    const busy = await tus.patch(path, 0, randomBytes(MIB));
    assert.equal(busy.status, 503);
    assert.match(busy.text, /another upload is being received/);
    gateway.dataPort.mood.refuse = {
      status: 422,
      body: { type: 'ChecksumMismatch', message: 'the file has another checksum' },
      afterBytes: 0,
    };
    const offset = Number((await tus.head(path)).headers['upload-offset']);
    const wrong = await tus.patch(path, offset, randomBytes(2 * MIB - offset));
    assert.equal(wrong.status, 400);
    assert.match(wrong.text, /Saving stream failed: the file has another checksum/);
    gateway.claims.delete('disk');
    assert.equal((await tus.head(path)).status, 410);
  });

  it('are only looked for by HEAD: nothing is opened, no slot is taken', async () => {
    const path = await tus.created(10);
    assert.equal((await tus.head(path)).headers['upload-offset'], '0');
    assert.deepEqual([gateway.opened.length, gateway.located.length], [0, 1]);
    // a PATCH of which nothing comes opens nothing either
    const silent = new PassThrough();
    const waiting = tus.patch(path, 0, silent, 10).catch(() => undefined);
    await pause(200);
    assert.equal(gateway.opened.length, 0);
    silent.destroy(new Error('gone'));
    await waiting;
  });

  it('ask the workflow once, however many chunks they come in', async () => {
    const content = randomBytes(MIB);
    const path = await tus.created(content.length);
    for (let offset = 0; offset < content.length; offset += MIB / 16) {
      const { status, text } = await tus.patch(path, offset, content.subarray(offset, offset + MIB / 16));
      assert.equal(status, 204, text);
      if (offset + MIB / 16 < content.length)
        assert.equal((await tus.head(path)).headers['upload-offset'], String(offset + MIB / 16));
    }
    assert.deepEqual([gateway.opened.length, gateway.located.length], [1, 0]);
    assert.deepEqual(await gateway.dataPort.content(tus.onlySession()), content);
  });

  it('come by POST where a proxy lets no PATCH through: X-HTTP-Method-Override', async () => {
    const content = randomBytes(3 * MIB);
    const sent = Promise.withResolvers<void>();
    const methods: string[] = [];
    const upload = new Upload(content, {
      endpoint: `https://localhost:${gateway.server.port}${PATH}`,
      headers: { authorization: `Bearer ${tus.token}` },
      chunkSize: MIB,
      overridePatchMethod: true,
      retryDelays: [],
      httpStack: new DefaultHttpStack({ ca: gateway.authority.ca }),
      onBeforeRequest: (asked) => void methods.push(asked.getMethod()),
      onError: (error) => sent.reject(error),
      onSuccess: () => sent.resolve(),
    });
    upload.start();
    await sent.promise;
    assert.deepEqual(methods, ['POST', 'POST', 'POST', 'POST']);
    assert.equal(gateway.opened.length, 1);
    assert.deepEqual(await gateway.dataPort.content(tus.onlySession()), content);
  });

  it('are kept by whoever asks at a bad moment: 423 is the answer to HEAD that ends nothing', async () => {
    const path = await tus.created(10);
    const failures = [
      ApplicationFailure.create({ type: 'NodeUnavailable', message: 'node n1 does not answer' }),
      ApplicationFailure.create({ type: 'UploadInProgress', message: 'the upload goes on in a new run' }),
      ApplicationFailure.create({ type: 'KubernetesUnavailable', message: 'no API server' }),
      new UploadError(502, 'the data port is not there'),
      new Error('nobody foresaw it'),
    ];
    for (const failure of failures) {
      gateway.onLocate = async () => await Promise.reject(failure);
      assert.equal((await tus.head(path)).status, 423, failure.message);
    }
    gateway.onLocate = undefined;
    const good = tus.token;
    tus.token = await createTokens(gateway.keys, () => Date.now() - 3_600_000).issue({
      namespace: 'team-a',
      name: 'disk',
      claimUid: 'claim-uid',
    });
    assert.equal((await tus.head(path)).status, 423);
    tus.token = 'a.b.c';
    assert.equal((await tus.head(path)).status, 401);
    tus.token = good;
    assert.equal((await tus.head(path)).status, 200);
  });

  it('are not ended by DELETE, which is not offered, and their names cannot be made up past the limit', async () => {
    const path = await tus.created(10);
    for (const gone of [path, `${PATH}/nonsense`])
      assert.equal(
        (await gateway.send({ method: 'DELETE', path: gone, token: tus.token, headers: TUS })).status,
        405,
      );
    const made = {
      session: randomUUID(),
      claimUid: 'claim-uid',
      length: 9e15,
      created: Date.now(),
      metadata: {},
    };
    assert.equal((await tus.head(`${PATH}/${nameUpload(made)}`)).status, 404);
    assert.equal((await tus.patch(`${PATH}/${nameUpload(made)}`, 0, Buffer.from('x'))).status, 404);
    assert.equal(gateway.opened.length, 0);
  });
});
