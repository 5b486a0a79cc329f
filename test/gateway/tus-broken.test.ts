import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { DefaultHttpStack, Upload } from 'tus-js-client';
import { ApplicationFailure } from '../../activities/failures.js';
import { startTestGateway, useTestGateway, type TestGateway } from './support.js';
import { createTusClient, MIB, PATH, TUS, type TusClient } from './tus.js';

describe('resumable uploads that are interrupted', function () {
  this.timeout(30_000);
  let gateway: TestGateway;
  let tus: TusClient;
  let directory: string;
  useTestGateway((given) => {
    gateway = given.gateway;
    tus = createTusClient(given);
  });
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'dvflow-tus-'));
  });
  after(async () => {
    await rm(directory, { recursive: true });
  });

  it('survive a connection that breaks, and go on from what the disk has', async () => {
    const content = randomBytes(4 * MIB);
    const path = await tus.created(content.length);
    const body = new PassThrough();
    const broken = tus.patch(path, 0, body, content.length);
    broken.catch(() => undefined);
    body.write(content.subarray(0, 1_500_000));
    while ((gateway.dataPort.sessions.get(tus.onlySession())?.durable ?? 0) < 1_500_000) await pause(10);
    body.destroy(new Error('the network is gone'));
    await assert.rejects(broken);
    await pause(100);
    assert.equal(gateway.dataPort.sessions.get(tus.onlySession())?.complete, false);
    const offset = Number((await tus.head(path)).headers['upload-offset']);
    assert.equal(offset, 1_500_000);
    assert.equal((await tus.patch(path, offset, content.subarray(offset))).status, 204);
    assert.deepEqual(await gateway.dataPort.content(tus.onlySession()), content);
  });

  it('are gone on with by another gateway', async () => {
    const content = randomBytes(2 * MIB);
    const path = await tus.created(content.length);
    await tus.patch(path, 0, content.subarray(0, MIB));
    const other = await startTestGateway({ beside: gateway });
    try {
      assert.equal((await tus.head(path, other)).headers['upload-offset'], String(MIB));
      const headers = {
        ...TUS,
        'upload-offset': String(MIB),
        'content-type': 'application/offset+octet-stream',
      };
      const { status } = await other.send({
        method: 'PATCH',
        path,
        token: tus.token,
        body: content.subarray(MIB),
        headers,
      });
      assert.equal(status, 204);
    } finally {
      await other.close();
    }
    assert.deepEqual(await gateway.dataPort.content(tus.onlySession()), content);
  });

  it('start lower where the node has lost what it could not keep, and refuse a wrong offset', async () => {
    const content = randomBytes(2 * MIB);
    const path = await tus.created(content.length);
    await tus.patch(path, 0, content.subarray(0, MIB));
    // as after a kill -9 in the middle of a compressed block
    gateway.dataPort.sessions.get(tus.onlySession())!.durable = 1_000;
    assert.equal((await tus.patch(path, MIB, content.subarray(MIB))).status, 409);
    assert.equal((await tus.head(path)).headers['upload-offset'], '1000');
    assert.equal((await tus.patch(path, 1_000, content.subarray(1_000))).status, 204);
    assert.deepEqual(await gateway.dataPort.content(tus.onlySession()), content);
  });

  it('of two requests for one upload the newer one wins', async () => {
    const content = randomBytes(2 * MIB);
    const path = await tus.created(content.length);
    const stuck = new PassThrough();
    const first = tus.patch(path, 0, stuck, content.length).catch(() => undefined);
    stuck.write(content.subarray(0, 1_000));
    while ((gateway.dataPort.sessions.get(tus.onlySession())?.durable ?? 0) < 1_000) await pause(10);
    // the client has come back by another connection; the old one is not known to be dead
    const offset = Number((await tus.head(path)).headers['upload-offset']);
    assert.equal(offset, 1_000);
    assert.equal((await tus.patch(path, offset, content.subarray(offset))).status, 204);
    stuck.destroy();
    await first;
    assert.deepEqual(await gateway.dataPort.content(tus.onlySession()), content);
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
      headers: { authorization: `Bearer ${tus.token}` },
      chunkSize: Number.POSITIVE_INFINITY,
      retryDelays: Array.from({ length: 12 }, () => 400),
      httpStack: new DefaultHttpStack({ ca: gateway.authority.ca }),
      onError: (error) => failed.reject(error),
      onSuccess: () => failed.resolve(),
    });
    upload.start();
    while ((gateway.dataPort.sessions.get(tus.onlySession())?.durable ?? 0) < 3 * MIB) await pause(5);
    down = true;
    gateway.dataPort.mood.away = true;
    setTimeout(() => {
      down = false;
      gateway.dataPort.mood.away = false;
    }, 3_000);
    await failed.promise;
    assert.deepEqual(await gateway.dataPort.content(tus.onlySession()), content);
    assert.equal(gateway.dataPort.sessions.size, 1);
    assert.equal(new Set(gateway.opened.map(({ session }) => session)).size, 1);
  });

  it('work with tus-js-client as it is, whose connection is cut again and again', async () => {
    const content = randomBytes(6 * MIB);
    const file = join(directory, 'disk.img');
    await writeFile(file, content);
    let cuts = 0;
    const cutting = setInterval(() => {
      const durable = gateway.dataPort.sessions.get(tus.onlySession())?.durable ?? 0;
      if (cuts >= 3 || durable < (cuts + 1) * MIB) return;
      cuts += 1;
      gateway.dataPort.mood.cutAfterBytes = durable;
      setTimeout(() => (gateway.dataPort.mood.cutAfterBytes = undefined), 50);
    }, 5);
    gateway.dataPort.mood.slowMs = 2;
    const upload = new Upload(createReadStream(file), {
      endpoint: `https://localhost:${gateway.server.port}${PATH}`,
      headers: { authorization: `Bearer ${tus.token}` },
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
    assert.deepEqual(await gateway.dataPort.content(tus.onlySession()), content);
    assert.equal(gateway.dataPort.sessions.size, 1);
  });
});
