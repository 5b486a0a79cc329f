import assert from 'node:assert/strict';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { DefaultHttpStack, Upload } from 'tus-js-client';
import { ApplicationFailure } from '../../activities/failures.js';
import { createTokens } from '../../workers/gateway/tokens.js';
import { nameUpload } from '../../workers/gateway/tus/upload-id.js';
import { UploadError } from '../../workers/gateway/upload-failures.js';
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
    // the volume of a Bound claim may be larger than the claim asks for
    const bound = { phase: 'Bound', capacity: { storage: '128Mi' } };
    gateway.claims.set('disk', { ...uploadClaim({ size: '1Mi' }), status: bound });
    assert.equal((await create(80 * MIB)).status, 201);
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

  /** Every byte is on its way to the node, and the connection is gone before its answer. */
  async function breakAfterLastByte(path: string, content: Buffer): Promise<void> {
    const body = new PassThrough();
    const broken = patch(path, 0, body, content.length);
    broken.catch(() => undefined);
    body.write(content);
    while (gateway.dataPort.sessions.get(onlySession())?.durable !== content.length) await pause(5);
    body.destroy(new Error('the network is gone'));
    await broken.catch(() => undefined);
  }

  it('are not said to be complete when the claim was deleted while the disk came', async () => {
    const path = await created(2 * MIB);
    const body = new PassThrough();
    body.write(randomBytes(MIB));
    const sent = patch(path, 0, body, 2 * MIB);
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
      path = await created(content.length);
    });

    it('are not said to be there before the disk is judged', async () => {
      gateway.dataPort.mood.judgeMs = 800;
      await breakAfterLastByte(path, content);
      const began = Date.now();
      const { status, headers } = await head(path);
      assert.deepEqual([status, headers['upload-offset']], [200, String(content.length)]);
      assert.ok(Date.now() - began >= 500);
      assert.equal(gateway.dataPort.sessions.get(onlySession())?.complete, true);
    });

    it('are told why they are refused, by HEAD too, which has no body', async () => {
      gateway.dataPort.mood.judgeMs = 500;
      gateway.dataPort.mood.refuse = refuse;
      await breakAfterLastByte(path, content);
      for (let again = 0; again < 2; again += 1) {
        const { status, headers } = await head(path);
        assert.equal(status, 400);
        assert.match(decodeURIComponent(String(headers['dvflow-reason'])), /the file has another checksum/);
        assert.match(String(headers['access-control-expose-headers']), /Dvflow-Reason/);
      }
    });

    it('are locked while it takes long, for a client that comes again', async () => {
      const other = await startTestGateway({ beside: gateway, parts: { verdictMs: 1_000 } });
      const durable = async () => ({ session: onlySession(), offset: content.length, receiving: true });
      try {
        other.onLocate = durable;
        assert.equal((await head(path, other)).status, 423);
        gateway.dataPort.mood.judgeMs = 2_000;
        await breakAfterLastByte(path, content);
        // the node does not say complete yet, to whomever
        assert.equal((await head(path, other)).status, 423);
        other.onLocate = undefined;
        assert.equal((await head(path)).status, 200);
        assert.equal((await head(path, other)).headers['upload-offset'], String(content.length));
      } finally {
        await other.close();
      }
    });

    for (const refused of [false, true]) {
      it(`are judged for a client that comes back when nobody does it any more: ${refused ? 'refused' : 'complete'}`, async () => {
        // as after a kill -9 of node and gateway
        await patch(path, 0, content.subarray(0, 1));
        Object.assign(gateway.dataPort.sessions.get(onlySession())!, { durable: content.length });
        if (refused) gateway.dataPort.mood.refuse = refuse;
        const other = await startTestGateway({ beside: gateway });
        try {
          const { status, headers } = await head(path, other);
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
        assert.equal((await patch(path, 0, content)).status, 204);
        const answer = head(path, other);
        await pause(300);
        const done = { annotations: { 'cdi.kubevirt.io/storage.pod.phase': 'Succeeded' } };
        gateway.claims.set('disk', uploadClaim(done));
        assert.equal((await answer).headers['upload-offset'], String(content.length));
      } finally {
        await other.close();
      }
    });
  });

  it('are only looked for by HEAD: nothing is opened, no slot is taken', async () => {
    const path = await created(10);
    assert.equal((await head(path)).headers['upload-offset'], '0');
    assert.deepEqual([gateway.opened.length, gateway.located.length], [0, 1]);
    // a PATCH of which nothing comes opens nothing either
    const silent = new PassThrough();
    const waiting = patch(path, 0, silent, 10).catch(() => undefined);
    await pause(200);
    assert.equal(gateway.opened.length, 0);
    silent.destroy(new Error('gone'));
    await waiting;
  });

  it('ask the workflow once, however many chunks they come in', async () => {
    const content = randomBytes(MIB);
    const path = await created(content.length);
    for (let offset = 0; offset < content.length; offset += MIB / 16) {
      const { status, text } = await patch(path, offset, content.subarray(offset, offset + MIB / 16));
      assert.equal(status, 204, text);
      if (offset + MIB / 16 < content.length)
        assert.equal((await head(path)).headers['upload-offset'], String(offset + MIB / 16));
    }
    assert.deepEqual([gateway.opened.length, gateway.located.length], [1, 0]);
    assert.deepEqual(await gateway.dataPort.content(onlySession()), content);
  });

  it('are kept by whoever asks at a bad moment: 423 is the answer to HEAD that ends nothing', async () => {
    const path = await created(10);
    const failures = [
      ApplicationFailure.create({ type: 'NodeUnavailable', message: 'node n1 does not answer' }),
      ApplicationFailure.create({ type: 'UploadInProgress', message: 'the upload goes on in a new run' }),
      ApplicationFailure.create({ type: 'KubernetesUnavailable', message: 'no API server' }),
      new UploadError(502, 'the data port is not there'),
      new Error('nobody foresaw it'),
    ];
    for (const failure of failures) {
      gateway.onLocate = async () => await Promise.reject(failure);
      assert.equal((await head(path)).status, 423, failure.message);
    }
    gateway.onLocate = undefined;
    const good = token;
    token = await createTokens(gateway.keys, () => Date.now() - 3_600_000).issue({
      namespace: 'team-a',
      name: 'disk',
      claimUid: 'claim-uid',
    });
    assert.equal((await head(path)).status, 423);
    token = 'a.b.c';
    assert.equal((await head(path)).status, 401);
    token = good;
    assert.equal((await head(path)).status, 200);
  });

  it('are not ended by DELETE, which is not offered, and their names cannot be made up past the limit', async () => {
    const path = await created(10);
    for (const gone of [path, `${PATH}/nonsense`])
      assert.equal((await gateway.send({ method: 'DELETE', path: gone, token, headers: TUS })).status, 405);
    const made = {
      session: randomUUID(),
      claimUid: 'claim-uid',
      length: 9e15,
      created: Date.now(),
      metadata: {},
    };
    assert.equal((await head(`${PATH}/${nameUpload(made)}`)).status, 404);
    assert.equal((await patch(`${PATH}/${nameUpload(made)}`, 0, Buffer.from('x'))).status, 404);
    assert.equal(gateway.opened.length, 0);
  });

  it('work with tus-js-client as it is, whose node is away for a while', async () => {
    const content = randomBytes(6 * MIB);
    gateway.dataPort.mood.slowMs = 2;
    let down = false;
    const whileDown = async (): Promise<void> => {
      if (down) throw ApplicationFailure.create({ type: 'NodeUnavailable', message: 'node n1 is silent' });
    };
    gateway.onLocate = async (_claim, { session }) => {
      await whileDown();
      return { session, offset: gateway.dataPort.sessions.get(session)?.durable ?? 0 };
    };
    gateway.onOpen = async (_claim, { session, length }) => {
      await whileDown();
      return { url: gateway.dataPort.url, session, offset: gateway.dataPort.open(session, length).durable };
    };
    const failed = Promise.withResolvers<void>();
    const upload = new Upload(content, {
      endpoint: `https://localhost:${gateway.server.port}${PATH}`,
      headers: { authorization: `Bearer ${token}` },
      chunkSize: Number.POSITIVE_INFINITY,
      retryDelays: Array.from({ length: 12 }, () => 400),
      httpStack: new DefaultHttpStack({ ca: gateway.authority.ca }),
      onError: (error) => failed.reject(error),
      onSuccess: () => failed.resolve(),
    });
    upload.start();
    while ((gateway.dataPort.sessions.get(onlySession())?.durable ?? 0) < 3 * MIB) await pause(5);
    down = true;
    gateway.dataPort.mood.away = true;
    setTimeout(() => {
      down = false;
      gateway.dataPort.mood.away = false;
    }, 3_000);
    await failed.promise;
    assert.deepEqual(await gateway.dataPort.content(onlySession()), content);
    assert.equal(gateway.dataPort.sessions.size, 1);
    assert.equal(new Set(gateway.opened.map(({ session }) => session)).size, 1);
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
