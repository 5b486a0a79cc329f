import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { readUploadState } from '../../../activities/image/upload/upload-state.js';
import { makePatterned, makeRaw, MIB, qemuImg, sha256, useDirectory } from '../support/images.js';
import { isOfUser, moversOf, until, USER } from '../support/transfer.js';
import { makeTarget, openBody, session, slowly, useDataPort } from './support.js';

const DISK = 24 * MIB;

describe('receiveUpload', function () {
  this.timeout(120_000);
  const directory = useDirectory();
  const server = useDataPort();
  const files: Record<string, string> = {};
  let raw = '';

  before(() => {
    raw = makeRaw(`${directory()}/disk.raw`, DISK);
    const file = (name: string): string => (files[name] = `${directory()}/${name}`);
    files['raw'] = raw;
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, file('qcow2'));
    qemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, file('compressed.qcow2'));
    qemuImg('convert', '-f', 'raw', '-O', 'vmdk', raw, file('vmdk'));
    for (const [name, tool] of [
      ['raw.gz', 'gzip -1'],
      ['raw.xz', 'xz -1'],
      ['raw.zst', 'zstd -1'],
    ] as const)
      execFileSync('sh', ['-c', `${tool} -c < ${raw} > ${file(name)}`]);
    execFileSync('sh', ['-c', `gzip -1 -c < ${files['qcow2']} > ${file('qcow2.gz')}`]);
  });
  const assertSame = (disk: string): void =>
    assert.match(qemuImg('compare', '-f', 'raw', '-F', 'raw', disk, raw), /identical/);
  const make = (limits = {}, bytes = DISK) => makeTarget(directory(), bytes, server, limits);
  const fileOf = (name: string): string => files[name] ?? '';

  for (const name of ['raw', 'qcow2', 'compressed.qcow2', 'raw.gz', 'raw.xz', 'raw.zst', 'qcow2.gz'])
    it(`makes the disk of a ${name} as it comes, and says so only when it is complete`, async () => {
      const target = await make();
      const request = session({ length: statSync(fileOf(name)).size });
      const receiving = target.receive(request);
      const answer = await target.putFile(request, fileOf(name));
      assert.equal(answer.status, 200, answer.text);
      const told = JSON.parse(answer.text) as { virtualSize: number; bytes: number };
      assert.deepEqual([told.virtualSize, told.bytes], [DISK, request.length]);
      // told after the last sync: whoever looks now finds the record that says so
      const record = JSON.parse(readFileSync(`${target.state}/record.json`, 'utf8')) as { result?: object };
      assert.ok(record.result);
      const received = await receiving.done;
      assert.equal(received.outcome, 'complete');
      assertSame(target.disk);
    });

  it('takes a body without a length, in pieces, and writes no zeros', async () => {
    const target = await make();
    const sparse = Buffer.alloc(DISK);
    randomBytes(MIB).copy(sparse, 4 * MIB);
    const request = session();
    const receiving = target.receive(request);
    const answer = await target.put(request, slowly(sparse, 20, 10));
    assert.equal(answer.status, 200, answer.text);
    assert.equal((await receiving.done).outcome, 'complete');
    assert.ok(readFileSync(target.disk).equals(sparse));
    assert.ok(statSync(target.disk).blocks * 512 < 3 * MIB);
  });

  it('works in a process that is not root, and closes its place when it is done', async () => {
    const target = await make();
    const request = session({ length: DISK });
    const receiving = target.receive(request);
    const body = openBody(
      `${(await target.locate(request)).url}?session=${request.session}`,
      target.client(),
    );
    await body.write(readFileSync(raw).subarray(0, 4 * MIB));
    await until(receiving.done, () => {
      const movers = moversOf(target.disk);
      return movers.length > 0 && (!USER || movers.every(isOfUser));
    });
    await body.write(readFileSync(raw).subarray(4 * MIB));
    body.end();
    assert.equal(await body.answered, 200);
    await receiving.done;
    assert.deepEqual(moversOf(target.disk), []);
    const second = await target.putFile(request, raw);
    assert.equal(second.status, 503);
  });

  it('lets a client that vanishes send again, from zero, and loses nothing of the second try', async () => {
    const target = await make();
    const first = session({ length: DISK });
    const receiving = target.receive(first);
    const body = openBody(`${(await target.locate(first)).url}?session=${first.session}`, target.client());
    await body.write(makeOther());
    body.vanish();
    const received = await receiving.done;
    assert.equal(received.outcome, 'interrupted');
    assert.match('message' in received ? received.message : '', /connection of the client broke off: \d+ of/);
    const again = session({ length: DISK });
    const second = target.receive(again);
    assert.equal((await target.locate(again)).offset, 0);
    assert.equal((await target.putFile(again, raw)).status, 200);
    assert.equal((await second.done).outcome, 'complete');
    assertSame(target.disk);
  });

  /** What shines through if a try is not forgotten. */
  const makeOther = (): Buffer => Buffer.alloc(8 * MIB, 0xee);

  it('tells a client that sends less, or more, than it announced', async () => {
    const target = await make();
    for (const [sent, message] of [
      [DISK - 1, /sent less than it announced: \d+ of \d+ bytes/],
      [DISK + 1, /sent more than was announced/],
    ] as const) {
      const request = session({ length: DISK });
      const receiving = target.receive(request);
      const answer = await target.put(request, Buffer.concat([readFileSync(raw), Buffer.alloc(1)], sent));
      assert.equal(answer.status, 408, answer.text);
      assert.match(answer.text, message);
      assert.match(answer.text, /"type":"SourceUnavailable".*"retryable":true/);
      assert.equal((await receiving.done).outcome, 'interrupted');
    }
  });

  it('refuses a second client while one sends, whatever session it names', async () => {
    const target = await make();
    const request = session({ length: DISK, resumable: true });
    const receiving = target.receive(request);
    const { url } = await target.locate(request);
    const body = openBody(`${url}?session=${request.session}`, target.client());
    await body.write(readFileSync(raw).subarray(0, MIB));
    await until(receiving.done, () => moversOf(target.disk).length > 0);
    for (const other of [request, session({ length: DISK })]) {
      const answer = await target.put(other, Buffer.from('x'), { offset: MIB });
      assert.equal(answer.status, 409);
      assert.match(answer.text, /"type":"UploadInProgress"/);
    }
    assert.equal((await target.locate(session())).receiving, request.session);
    await body.write(readFileSync(raw).subarray(MIB));
    body.end();
    assert.equal(await body.answered, 200);
    assert.equal((await receiving.done).outcome, 'complete');
    assertSame(target.disk);
  });

  it('tells what is wrong with rubbish, and takes the right file afterwards', async () => {
    const target = await make();
    const qcow2 = readFileSync(fileOf('qcow2'));
    const damaged = Buffer.from(readFileSync(fileOf('raw.gz')));
    damaged.fill(0x55, damaged.length / 2, damaged.length / 2 + 4096);
    const hostile = Buffer.from(qcow2);
    hostile.writeBigUInt64BE(0x200n, 8);
    hostile.writeUInt32BE(16, 16);
    const tries: readonly (readonly [string, Buffer, RegExp])[] = [
      ['a qcow2 that is cut off', qcow2.subarray(0, qcow2.length / 2), /"type":"ImageInvalid"/],
      ['a gz that is damaged', damaged, /"type":"ImageInvalid"/],
      ['a qcow2 with a backing file', hostile, /"type":"ImageHostile"/],
      ['a disk that is too large', Buffer.alloc(DISK + 4096, 1), /"type":"LargerPVCRequired"/],
    ];
    for (const [what, content, expected] of tries) {
      const request = session({ length: content.length });
      const receiving = target.receive(request);
      const answer = await target.put(request, content);
      assert.match(answer.text, expected, what);
      assert.match(answer.text, /"retryable":false/, what);
      assert.ok(answer.status >= 400 && answer.status < 500, `${what}: ${answer.status}`);
      assert.equal((await receiving.done).outcome, 'refused', what);
      assert.equal((await target.locate(request)).offset, 0);
    }
    const request = session({ length: DISK });
    const receiving = target.receive(request);
    assert.equal((await target.putFile(request, raw)).status, 200);
    assert.equal((await receiving.done).outcome, 'complete');
    assertSame(target.disk);
  });

  it('ends an image that has no end: 16 times the disk and 64 MiB are taken', async () => {
    const target = await make({}, MIB);
    qemuImg('create', '-f', 'qcow2', `${directory()}/small.qcow2`, String(MIB));
    const image = readFileSync(`${directory()}/small.qcow2`);
    const request = session();
    const receiving = target.receive(request);
    const rest = Array.from({ length: 100 }, () => Buffer.alloc(MIB, 1));
    const answer = await target.put(request, Readable.from([image, ...rest]));
    assert.match(
      answer.text,
      /"type":"ImageHostile".*more than 83886080 bytes, for a disk of at most 1048576/,
    );
    assert.equal((await receiving.done).outcome, 'refused');
  });

  it('verifies a checksum over the whole file, also where it comes in two parts', async () => {
    const target = await make();
    const digest = sha256(fileOf('qcow2'));
    const length = statSync(fileOf('qcow2')).size;
    const wrong = session({ length, checksum: `sha256:${'0'.repeat(64)}` });
    const refused = target.receive(wrong);
    const told = await target.putFile(wrong, fileOf('qcow2'));
    assert.match(told.text, /"type":"ChecksumMismatch"/);
    assert.equal((await refused.done).outcome, 'refused');
    const right = session({ length, checksum: `sha256:${digest}`, resumable: true });
    const receiving = target.receive(right);
    const content = readFileSync(fileOf('qcow2'));
    assert.equal((await target.put(right, content.subarray(0, 5 * MIB))).status, 202);
    const last = await target.put(right, content.subarray(5 * MIB), { offset: 5 * MIB });
    assert.equal(last.status, 200, last.text);
    assert.match(last.text, new RegExp(`"checksum":"sha256:${digest}"`));
    assert.equal((await receiving.done).outcome, 'complete');
    assertSame(target.disk);
  });

  it('ends a client that is silent, and never one that is slow', async () => {
    const target = await make({ stallMs: 600 });
    const content = readFileSync(fileOf('qcow2'));
    const silent = session({ length: content.length });
    const ended = target.receive(silent);
    const began = Date.now();
    const body = openBody(`${(await target.locate(silent)).url}?session=${silent.session}`, target.client());
    await body.write(content.subarray(0, MIB));
    assert.equal(await body.answered, 408);
    assert.ok(Date.now() - began >= 600);
    assert.equal((await ended.done).outcome, 'interrupted');
    const slow = session({ length: content.length });
    const receiving = target.receive(slow);
    const answer = await target.put(slow, slowly(content, 12, 300));
    assert.equal(answer.status, 200, answer.text);
    assert.equal((await receiving.done).outcome, 'complete');
    assertSame(target.disk);
  });

  it('refuses an offset that is not the next, and answers it', async () => {
    const target = await make();
    const request = session({ length: DISK, resumable: true });
    const receiving = target.receive(request);
    assert.equal((await target.put(request, readFileSync(raw).subarray(0, MIB))).status, 202);
    const wrong = await target.put(request, Buffer.from('x'), { offset: 17 });
    assert.deepEqual([wrong.status, wrong.headers['upload-offset']], [409, `${MIB}`]);
    const { url } = await target.locate(request);
    const { send } = await import('../../workers/data-port-client.js');
    const head = async (of: string) =>
      await send(`${url}?session=${of}`, { ...target.client(), method: 'HEAD' });
    const told = await head(request.session);
    assert.deepEqual([told.status, told.headers['upload-offset']], [200, `${MIB}`]);
    // an offset of another session would be taken for one's own
    assert.equal((await head('another')).status, 409);
    const post = await send(`${url}?session=${request.session}`, { ...target.client(), method: 'POST' });
    assert.equal(post.status, 422);
    receiving.cancel();
    await assert.rejects(receiving.done);
    assert.deepEqual(moversOf(target.disk), []);
  });

  it('unpacks an archive', async () => {
    const tree = `${directory()}/tree`;
    mkdirSync(`${tree}/etc`, { recursive: true });
    writeFileSync(`${tree}/etc/motd`, 'welcome\n');
    execFileSync('tar', ['-C', tree, '-czf', `${directory()}/tree.tar.gz`, '.']);
    const content = readFileSync(`${directory()}/tree.tar.gz`);
    const target = await make();
    const request = session({ contentType: 'archive', length: content.length });
    const receiving = target.receive(request);
    const answer = await target.put(request, content);
    assert.equal(answer.status, 200, answer.text);
    assert.equal((await receiving.done).outcome, 'complete');
    assert.equal(readFileSync(`${target.volume}/etc/motd`, 'utf8'), 'welcome\n');
    assert.equal(existsSync(target.disk), false);
    const other = await make();
    const notOne = session({ contentType: 'archive', length: DISK });
    const refused = other.receive(notOne);
    const told = await other.putFile(notOne, raw);
    assert.match(told.text, /"type":"ContentTypeNotSupported"/);
    assert.equal((await refused.done).outcome, 'refused');
  });

  it('asks for scratch space while its client waits, and goes on with the same body', async () => {
    const target = await make();
    const request = session({ length: statSync(fileOf('vmdk')).size });
    const first = target.receive(request);
    const answering = target.putFile(request, fileOf('vmdk'));
    const asked = await first.done;
    assert.equal(asked.outcome, 'scratch');
    assert.match('reason' in asked ? asked.reason : '', /VMDK/);
    await pause(300);
    const scratch = await target.reserveScratch(DISK);
    const second = target.receive(request, { scratch });
    const answer = await answering;
    assert.equal(answer.status, 200, answer.text);
    assert.equal((await second.done).outcome, 'complete');
    assertSame(target.disk);
  });

  it('lets a client go for which there will be no scratch space', async () => {
    const target = await make();
    const request = session({ length: statSync(fileOf('vmdk')).size });
    const first = target.receive(request);
    const answering = target.putFile(request, fileOf('vmdk'));
    assert.equal((await first.done).outcome, 'scratch');
    await target.dismiss('ScratchSpaceRequired', 'no class');
    const answer = await answering;
    assert.equal(answer.status, 422);
    assert.match(answer.text, /"type":"ScratchSpaceRequired","message":"no class"/);
  });
});

describe('an upload that is resumed', function () {
  this.timeout(120_000);
  const directory = useDirectory();
  const server = useDataPort();
  const SIZE = 64 * MIB;
  let raw = '';
  before(() => {
    raw = makePatterned(`${directory()}/patterned.raw`, SIZE / MIB);
    execFileSync('sh', ['-c', `gzip -1 -c < ${raw} > ${raw}.gz; zstd -q -1 -c < ${raw} > ${raw}.zst`]);
  });
  // runs from when the session opens, before its client has connected
  const limits = { lingerMs: 2_000 };
  const make = (more = limits) => makeTarget(directory(), SIZE, server, more);
  const digestOf = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

  it('goes on where its client left, on any number of connections', async () => {
    const target = await make();
    const request = session({ length: SIZE, resumable: true });
    const receiving = target.receive(request);
    const content = readFileSync(raw);
    const { url } = await target.locate(request);
    const body = openBody(`${url}?session=${request.session}`, target.client(), { 'upload-offset': '0' });
    await body.write(content.subarray(0, 10 * MIB));
    body.vanish();
    while ((await target.locate(request)).receiving) await pause(20);
    const { offset } = await target.locate(request);
    assert.ok(offset > 0 && offset <= 10 * MIB, `${offset}`);
    assert.equal((await target.put(request, content.subarray(offset, 40 * MIB), { offset })).status, 202);
    const last = await target.put(request, content.subarray(40 * MIB), { offset: 40 * MIB });
    assert.equal(last.status, 200, last.text);
    const received = await receiving.done;
    assert.equal(received.outcome === 'complete' && received.result.bytesTransferred, SIZE);
    assert.equal(digestOf(target.disk), digestOf(raw));
  });

  for (const checksum of [false, true])
    it(`of a raw disk${checksum ? ' with a checksum' : ''} goes on behind what is durable after its session was closed`, async () => {
      const target = await make();
      const more = checksum ? { checksum: `sha256:${digestOf(raw)}` } : {};
      const request = session({ length: SIZE, resumable: true, ...more });
      const first = target.receive(request);
      const content = readFileSync(raw);
      assert.equal((await target.put(request, content.subarray(0, 20 * MIB))).status, 202);
      const interrupted = await first.done;
      assert.ok(interrupted.outcome === 'interrupted');
      assert.match(interrupted.message, /nobody sent for 2 s/);
      // what may be the footer of a VHD is only written when more has come
      const { offset } = await target.locate(request);
      assert.equal(offset, 20 * MIB - 512);
      assert.equal(interrupted.offset, offset);
      const second = target.receive(request);
      const answer = await target.put(request, content.subarray(offset), { offset });
      assert.equal(answer.status, 200, answer.text);
      const received = await second.done;
      assert.ok(received.outcome === 'complete');
      assert.equal(received.result.bytesTransferred, SIZE + 512);
      assert.equal(received.result.resumedFrom, offset);
      assert.equal(digestOf(target.disk), digestOf(raw));
    });

  it('in gz is sent again from its start after its process was killed, and what is durable is not written again', async () => {
    const target = await make();
    const content = readFileSync(`${raw}.gz`);
    const request = session({ length: content.length, resumable: true });
    const first = target.receive(request);
    const half = Math.floor(content.length / 2);
    assert.equal((await target.put(request, content.subarray(0, half))).status, 202);
    assert.equal((await target.locate(request)).offset, half);
    for (const pid of moversOf(target.disk)) process.kill(pid, 'SIGKILL');
    const killed = await first.done;
    assert.ok(killed.outcome === 'interrupted');
    assert.deepEqual([killed.type, killed.offset], ['NodeUnavailable', 0]);
    const second = target.receive(request);
    assert.equal((await target.locate(request)).offset, 0);
    assert.equal((await target.put(request, content)).status, 200);
    assert.equal((await second.done).outcome, 'complete');
    assert.equal(digestOf(target.disk), digestOf(raw));
  });

  it('in gz goes on behind what was kept, where it is spooled', async () => {
    const target = await make();
    const content = readFileSync(`${raw}.gz`);
    const scratch = await target.reserveScratch(SIZE);
    const request = session({ length: content.length, resumable: true });
    const spooling = { scratch, spool: true };
    const first = target.receive(request, spooling);
    const half = Math.floor(content.length / 2);
    assert.equal((await target.put(request, content.subarray(0, half))).status, 202);
    const interrupted = await first.done;
    assert.equal(interrupted.outcome === 'interrupted' && interrupted.offset, half);
    const second = target.receive(request, spooling);
    const { offset } = await target.locate(request);
    assert.equal(offset, half);
    const answer = await target.put(request, content.subarray(half), { offset });
    assert.equal(answer.status, 200, answer.text);
    const received = await second.done;
    assert.ok(received.outcome === 'complete');
    assert.deepEqual(
      [received.result.bytesTransferred, received.result.scratchBytes],
      [content.length, content.length],
    );
    assert.equal(digestOf(target.disk), digestOf(raw));
  });

  type Target = Awaited<ReturnType<typeof make>>;
  /** Ends a reception that has spooled so many bytes. */
  type End = (target: Target, receiving: ReturnType<Target['receive']>, bytes: number) => unknown;
  const ends: readonly (readonly [string, End])[] = [
    ['is cancelled', (_, receiving) => receiving.cancel()],
    [
      'is killed, seconds after its client has paused',
      async ({ disk, state }, _, bytes) => {
        const isKept = async (): Promise<boolean> => (await readUploadState(state))?.spooled === bytes;
        for (let tries = 0; tries < 400 && !(await isKept()); tries += 1) await pause(50);
        for (const pid of moversOf(disk)) process.kill(pid, 'SIGKILL');
      },
    ],
  ];
  for (const [how, end] of ends)
    it(`keeps what was spooled when its reception ${how}`, async () => {
      const target = await make({ lingerMs: 30_000 });
      const content = readFileSync(`${raw}.gz`);
      const scratch = await target.reserveScratch(SIZE);
      const request = session({ length: content.length, resumable: true });
      const receiving = target.receive(request, { scratch, spool: true });
      const half = Math.floor(content.length / 2);
      assert.equal((await target.put(request, content.subarray(0, half))).status, 202);
      const spooled = `${target.pool}/${scratch.directory.directory}/upload-${request.session}`;
      const sizeOf = (): number => statSync(spooled, { throwIfNoEntry: false })?.size ?? 0;
      for (let tries = 0; tries < 500 && sizeOf() < half; tries += 1) await pause(20);
      await end(target, receiving, half);
      await receiving.done.catch(() => undefined);
      assert.equal((await target.locate(request)).offset, half);
    });

  it('is finished by the next attempt when all of it had come', async () => {
    const target = await make();
    const request = session({ length: SIZE, resumable: true });
    const first = target.receive(request);
    const content = readFileSync(raw);
    assert.equal((await target.put(request, content.subarray(0, SIZE - 4096))).status, 202);
    assert.equal((await first.done).outcome, 'interrupted');
    const second = target.receive(request);
    const { offset } = await target.locate(request);
    const last = await target.put(request, content.subarray(offset), { offset });
    assert.equal(last.status, 200);
    const received = await second.done;
    // an attempt whose worker died before it could say so is made again
    const again = await target.receive(request, {}, { attempt: 2 }).done;
    assert.deepEqual(
      again.outcome === 'complete' && again.result,
      received.outcome === 'complete' && received.result,
    );
  });

  it('starts over where another file comes under the name of its volume', async () => {
    const target = await make();
    const other = Buffer.alloc(SIZE, 0xdd);
    for (let count = 0; count < 4; count += 1) {
      const request = session({ length: SIZE, resumable: true });
      const receiving = target.receive(request);
      assert.equal((await target.put(request, other.subarray(0, 8 * MIB))).status, 202);
      assert.equal((await receiving.done).outcome, 'interrupted');
    }
    const request = session({ length: SIZE });
    const receiving = target.receive(request);
    assert.equal((await target.put(request, createReadStream(raw))).status, 200);
    assert.equal((await receiving.done).outcome, 'complete');
    assert.equal(digestOf(target.disk), digestOf(raw));
  });
});
