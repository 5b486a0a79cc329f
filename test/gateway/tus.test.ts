import assert from 'node:assert/strict';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { DefaultHttpStack, Upload } from 'tus-js-client';
import { nameUpload } from '../../workers/gateway/tus/upload-id.js';
import { startTestGateway, uploadClaim, type Received, type TestGateway } from './support.js';

const MIB = 1024 * 1024;
const PATH = '/tus/uploads';
const TUS = { 'tus-resumable': '1.0.0' };

describe('resumable uploads', function () {
  this.timeout(30_000);
  let gateway: TestGateway;
  let token: string;
  let directory: string;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'dvflow-tus-'));
  });
  after(async () => {
    await rm(directory, { recursive: true });
  });
  beforeEach(async () => {
    gateway = await startTestGateway();
    token = await gateway.token();
  });
  afterEach(async () => {
    await gateway.close();
  });

  async function create(length: number, metadata: Record<string, string> = {}): Promise<Received> {
    const pairs = Object.entries(metadata).map(
      ([key, value]) => `${key} ${Buffer.from(value).toString('base64')}`,
    );
    const headers = {
      ...TUS,
      'upload-length': String(length),
      ...(pairs.length ? { 'upload-metadata': pairs.join() } : {}),
    };
    return await gateway.send({ path: PATH, token, headers });
  }

  /** Makes an upload and returns its address. */
  async function created(length: number, metadata: Record<string, string> = {}): Promise<string> {
    const { status, text, headers } = await create(length, metadata);
    assert.equal(status, 201, text);
    return new URL(String(headers['location']), `https://localhost${PATH}`).pathname;
  }

  async function head(path: string, from = gateway): Promise<Received> {
    return await from.send({ method: 'HEAD', path, token, headers: TUS });
  }

  async function patch(
    path: string,
    offset: number,
    body: Buffer | PassThrough,
    length?: number,
  ): Promise<Received> {
    const headers = {
      ...TUS,
      'upload-offset': String(offset),
      'content-type': 'application/offset+octet-stream',
      ...(length === undefined ? {} : { 'content-length': String(length) }),
    };
    return await gateway.send({ method: 'PATCH', path, token, body, headers });
  }

  const onlySession = () => [...gateway.dataPort.sessions.keys()][0] ?? '';

  it('are made, told of and finished as the protocol has it', async () => {
    const content = randomBytes(3 * MIB);
    const path = await created(content.length, { filename: 'disk.qcow2' });
    // a place is asked for when bytes come, not before
    assert.equal(gateway.opened.length, 0);
    const first = await patch(path, 0, content.subarray(0, MIB));
    assert.equal(first.status, 204, first.text);
    assert.equal(first.headers['upload-offset'], String(MIB));
    const middle = await head(path);
    assert.equal(middle.status, 200);
    assert.equal(middle.headers['upload-offset'], String(MIB));
    assert.equal(middle.headers['upload-length'], String(content.length));
    assert.equal(middle.headers['cache-control'], 'no-store');
    assert.match(String(middle.headers['upload-metadata']), /^filename /);
    const last = await patch(path, MIB, content.subarray(MIB));
    assert.equal(last.status, 204, last.text);
    assert.equal(last.headers['upload-offset'], String(content.length));
    assert.deepEqual(await gateway.dataPort.content(onlySession()), content);
    assert.equal(gateway.opened[0]?.resumable, true);
    assert.equal(gateway.opened[0]?.length, content.length);
    // the answer may have been lost: whoever asks again is told that all is there
    assert.equal((await head(path)).headers['upload-offset'], String(content.length));
  });

  it('tell a client that has not heard its last answer that all is there, and no other client', async () => {
    const path = await created(5);
    assert.equal((await patch(path, 0, Buffer.from('01234'))).status, 204);
    const finished = uploadClaim({ annotations: { 'cdi.kubevirt.io/storage.pod.phase': 'Succeeded' } });
    const other = await created(5);
    gateway.claims.set('disk', finished);
    const told = await head(path);
    assert.deepEqual([told.status, told.headers['upload-offset']], [200, '5']);
    assert.equal((await head(other)).status, 410);
    const { status, text } = await patch(other, 0, Buffer.from('abcde'));
    assert.equal(status, 410);
    assert.match(text, /already finished uploading/);
    assert.equal((await create(5)).status, 410);
  });

  it('hand the checksum of the whole file on, and refuse what is none', async () => {
    const checksum = `sha256:${createHash('sha256').update('x').digest('hex')}`;
    await patch(await created(1, { checksum }), 0, Buffer.from('x'));
    assert.equal(gateway.opened[0]?.checksum, checksum);
    for (const bad of ['sha256:abc', 'crc32:00000000', checksum.slice(7), '']) {
      const { status, text } = await create(1, { checksum: bad });
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

  it('survive a connection that breaks, and go on from what the disk has', async () => {
    const content = randomBytes(4 * MIB);
    const path = await created(content.length);
    const body = new PassThrough();
    const broken = patch(path, 0, body, content.length);
    broken.catch(() => undefined);
    body.write(content.subarray(0, 1_500_000));
    while ((gateway.dataPort.sessions.get(onlySession())?.durable ?? 0) < 1_500_000) await pause(10);
    body.destroy(new Error('the network is gone'));
    await assert.rejects(broken);
    await pause(100);
    assert.equal(gateway.dataPort.sessions.get(onlySession())?.complete, false);
    const offset = Number((await head(path)).headers['upload-offset']);
    assert.equal(offset, 1_500_000);
    assert.equal((await patch(path, offset, content.subarray(offset))).status, 204);
    assert.deepEqual(await gateway.dataPort.content(onlySession()), content);
  });

  it('are gone on with by another gateway', async () => {
    const content = randomBytes(2 * MIB);
    const path = await created(content.length);
    await patch(path, 0, content.subarray(0, MIB));
    const other = await startTestGateway({ beside: gateway });
    try {
      assert.equal((await head(path, other)).headers['upload-offset'], String(MIB));
      const headers = {
        ...TUS,
        'upload-offset': String(MIB),
        'content-type': 'application/offset+octet-stream',
      };
      const { status } = await other.send({
        method: 'PATCH',
        path,
        token,
        body: content.subarray(MIB),
        headers,
      });
      assert.equal(status, 204);
    } finally {
      await other.close();
    }
    assert.deepEqual(await gateway.dataPort.content(onlySession()), content);
  });

  it('start lower where the node has lost what it could not keep, and refuse a wrong offset', async () => {
    const content = randomBytes(2 * MIB);
    const path = await created(content.length);
    await patch(path, 0, content.subarray(0, MIB));
    // as after a kill -9 in the middle of a compressed block
    gateway.dataPort.sessions.get(onlySession())!.durable = 1_000;
    assert.equal((await patch(path, MIB, content.subarray(MIB))).status, 409);
    assert.equal((await head(path)).headers['upload-offset'], '1000');
    assert.equal((await patch(path, 1_000, content.subarray(1_000))).status, 204);
    assert.deepEqual(await gateway.dataPort.content(onlySession()), content);
  });

  it('belong to the claim of their token, and to no other of its name', async () => {
    const path = await created(10);
    gateway.claims.set('disk', uploadClaim({ uid: 'another-uid' }));
    token = await gateway.token();
    assert.equal((await head(path)).status, 404);
    assert.equal((await patch(path, 0, Buffer.from('0123456789'))).status, 404);
    assert.equal(gateway.opened.length, 0);
    for (const name of ['nonsense', 'W10', Buffer.from('["a b","u",1,1,{}]').toString('base64url')])
      assert.equal((await head(`${PATH}/${name}`)).status, 404, name);
    assert.equal((await gateway.send({ method: 'HEAD', path, headers: TUS })).status, 400);
    assert.equal((await gateway.send({ method: 'HEAD', path, token: 'a.b.c', headers: TUS })).status, 401);
  });

  it('end after a week', async () => {
    const of = (created: number): string =>
      `${PATH}/${nameUpload({ session: randomUUID(), claimUid: 'claim-uid', length: 5, created, metadata: {} })}`;
    const old = of(Date.now() - 8 * 86_400_000);
    assert.equal((await head(old)).status, 410);
    assert.equal((await patch(old, 0, Buffer.from('01234'))).status, 410);
    const { headers } = await create(5);
    assert.ok(Date.parse(String(headers['upload-expires'])) > Date.now() + 6 * 86_400_000);
  });

  it('tell what is wrong, and nothing is lost where it can be cured', async () => {
    gateway.claims.set('disk', uploadClaim({ size: '1Mi' }));
    assert.equal((await create(80 * MIB)).status, 413);
    assert.equal((await create(0)).status, 400);
    gateway.claims.set('disk', uploadClaim());
    const path = await created(2 * MIB);
    const body = { type: 'UploadInProgress', message: 'another upload is being received' };
    gateway.dataPort.mood.refuse = { status: 409, body, afterBytes: 0 };
    const busy = await patch(path, 0, randomBytes(MIB));
    assert.equal(busy.status, 503);
    assert.match(busy.text, /another upload is being received/);
    gateway.dataPort.mood.refuse = {
      status: 422,
      body: { type: 'ChecksumMismatch', message: 'the file has another checksum' },
      afterBytes: 0,
    };
    const offset = Number((await head(path)).headers['upload-offset']);
    const wrong = await patch(path, offset, randomBytes(2 * MIB - offset));
    assert.equal(wrong.status, 400);
    assert.match(wrong.text, /Saving stream failed: the file has another checksum/);
    gateway.claims.delete('disk');
    assert.equal((await head(path)).status, 410);
  });

  it('of two requests for one upload the newer one wins', async () => {
    const content = randomBytes(2 * MIB);
    const path = await created(content.length);
    const stuck = new PassThrough();
    const first = patch(path, 0, stuck, content.length).catch(() => undefined);
    stuck.write(content.subarray(0, 1_000));
    while ((gateway.dataPort.sessions.get(onlySession())?.durable ?? 0) < 1_000) await pause(10);
    // the client has come back by another connection; the old one is not known to be dead
    const offset = Number((await head(path)).headers['upload-offset']);
    assert.equal(offset, 1_000);
    assert.equal((await patch(path, offset, content.subarray(offset))).status, 204);
    stuck.destroy();
    await first;
    assert.deepEqual(await gateway.dataPort.content(onlySession()), content);
  });

  it('work with tus-js-client as it is, whose connection is cut again and again', async () => {
    const content = randomBytes(6 * MIB);
    const file = join(directory, 'disk.img');
    await writeFile(file, content);
    let cuts = 0;
    const cutting = setInterval(() => {
      const durable = gateway.dataPort.sessions.get(onlySession())?.durable ?? 0;
      if (cuts >= 3 || durable < (cuts + 1) * MIB) return;
      cuts += 1;
      gateway.dataPort.mood.cutAfterBytes = durable;
      setTimeout(() => (gateway.dataPort.mood.cutAfterBytes = undefined), 50);
    }, 5);
    gateway.dataPort.mood.slowMs = 2;
    const upload = new Upload(createReadStream(file), {
      endpoint: `https://localhost:${gateway.server.port}${PATH}`,
      headers: { authorization: `Bearer ${token}` },
      metadata: { filename: 'disk.img' },
      uploadSize: content.length,
      chunkSize: Number.POSITIVE_INFINITY,
      retryDelays: [50, 50, 50, 50, 50],
      httpStack: new DefaultHttpStack({ ca: gateway.authority.ca }),
      onError: (error) => failed.reject(error),
      onSuccess: () => failed.resolve(),
    });
    const failed = Promise.withResolvers<void>();
    upload.start();
    await failed.promise.finally(() => clearInterval(cutting));
    assert.equal(cuts, 3);
    assert.deepEqual(await gateway.dataPort.content(onlySession()), content);
    assert.equal(gateway.dataPort.sessions.size, 1);
  });
});
