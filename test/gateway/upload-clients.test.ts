import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { once } from 'node:events';
import { createHash, randomBytes } from 'node:crypto';
import { PassThrough } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { readFormFile } from '../../workers/gateway/form-file.js';
import { useTestGateway, type TestGateway } from './support.js';
import { MIB, SYNC, fill, form, rawRequest, uploaded } from './uploads.js';

describe("CDI's upload endpoints survive their clients", function () {
  this.timeout(30_000);
  let gateway: TestGateway;
  let token: string;
  useTestGateway((given) => ({ gateway, token } = given));

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
    await assert.rejects(readFormFile(silent, type, { stallMs: 200 }), { status: 408 });
    assert.ok(Date.now() - began < 2_000);
    const trickle = Object.assign(new PassThrough(), { headers: {} });
    const reading = readFormFile(trickle as unknown as IncomingMessage, type, { stallMs: 400 });
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
    // four of a claim
    const tokens = await Promise.all(Array.from({ length: 16 }, (_, n) => gateway.claimToken(`disk-${n}`)));
    const answers = bodies.map((body, n) =>
      gateway.send({ path: SYNC, token: tokens[n % 16]!, body, headers }),
    );
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
      .update(await uploaded(gateway))
      .digest('hex');
    assert.equal(
      hash,
      createHash('sha256')
        .update(Buffer.alloc(40 * MIB, 7))
        .digest('hex'),
    );
  });
});
