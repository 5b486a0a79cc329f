import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ApplicationFailure } from '@temporalio/common';
import { SOURCE_LOADER } from '../support/source-loader.js';
import { makePatterned, makeRaw, MIB, qemuImg, sha256, useDirectory } from './support/images.js';
import { serveFile } from './support/serve.js';
import { refusal } from './support/refused.js';
import { moversOf, reserve, until, USER } from './support/transfer.js';

describe('transferImage', function () {
  this.timeout(120_000);
  const directory = useDirectory();
  let raw = '';
  let qcow2 = '';
  before(() => {
    raw = makeRaw(`${directory()}/disk.raw`, 16 * MIB);
    qcow2 = `${directory()}/disk.qcow2`;
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, qcow2);
  });

  it('fills disk.img in a process of user 107 without privileges, and leaves it as the verification wants it', async () => {
    await using server = await serveFile(qcow2);
    server.rate = 8 * MIB;
    const { node, input, disk, start } = await reserve(directory(), server, 20 * MIB);
    const attempt = start();
    await until(attempt.done, () => attempt.beats.some(({ phase }) => phase === 'transferring'));
    const [mover] = moversOf(disk);
    assert.ok(mover, 'a process has the disk open');
    const status = readFileSync(`/proc/${mover}/status`, 'utf8');
    if (USER) assert.match(status, /^Uid:\t107\t107\t107\t107$/m);
    if (USER) assert.match(status, /^Groups:\s*$/m);
    assert.match(status, /^NoNewPrivs:\t1$/m);
    assert.match(status, /^CapEff:\t0{16}$/m);
    if (USER) assert.match(status, /^CapBnd:\t0{16}$/m);
    assert.ok(
      !readFileSync(`/proc/${mover}/cmdline`, 'utf8').includes('127.0.0.1'),
      'the request is no argument',
    );
    const transferred = await attempt.done;
    assert.equal(transferred.virtualSize, 16 * MIB);
    await node.verifyImage({ directory: input.target, transferred });
    assert.match(qemuImg('compare', '-f', 'raw', '-F', 'raw', disk, raw), /identical/);
    assert.equal(statSync(disk).size, 20 * MIB);
  });

  it('does nothing the second time', async () => {
    await using server = await serveFile(raw);
    const { start } = await reserve(directory(), server, 16 * MIB);
    const first = await start().done;
    const { requests } = server;
    assert.deepEqual(await start(2).done, { ...first, attempts: 2 });
    assert.equal(server.requests, requests);
  });

  it('replaces what a tenant put in the place of disk.img, and follows no link', async () => {
    await using server = await serveFile(raw);
    const { disk, start } = await reserve(directory(), server, 16 * MIB);
    const outside = `${directory()}/outside`;
    writeFileSync(outside, 'precious');
    symlinkSync(outside, disk);
    await start().done;
    assert.equal(readFileSync(outside, 'utf8'), 'precious');
    assert.equal(sha256(disk), sha256(raw));
  });

  for (const name of ['raw', 'qcow2'] as const) {
    it(`goes on where a killed process was (${name}), without fetching what is durable again`, async () => {
      const image = `${directory()}/resume.${name}`;
      const content = makePatterned(`${directory()}/resume.raw`, 96);
      if (name !== 'raw') qemuImg('convert', '-f', 'raw', '-O', name, content, image);
      await using server = await serveFile(image);
      // slow enough that much is left when something is durable, after seconds
      server.rate = 4 * MIB;
      const { disk, record, start, state } = await reserve(directory(), server, 96 * MIB);
      const attempt = start();
      const completed = (): number =>
        existsSync(`${state}/record.json`) ? (record().durable?.completed ?? 0) : 0;
      await until(attempt.done, () => completed() > 0);
      for (const pid of moversOf(disk)) process.kill(pid, 'SIGKILL');
      await assert.rejects(attempt.done, refusal('NodeUnavailable', /was killed/, false));
      const durable = completed();
      server.rate = Infinity;
      const before = server.sent;
      const result = await start(2).done;
      assert.equal(result.resumedFrom, durable);
      assert.match(qemuImg('compare', '-f', 'raw', '-F', name, disk, image), /identical/);
      const rest = statSync(image).size - durable + 2 * MIB;
      assert.ok(
        server.sent - before <= rest,
        `${server.sent - before} bytes fetched, ${durable} were durable`,
      );
    });
  }

  it('writes nothing more after a cancel', async () => {
    await using server = await serveFile(raw);
    server.rate = MIB;
    const { disk, start } = await reserve(directory(), server, 16 * MIB);
    const attempt = start();
    await until(attempt.done, () => attempt.beats.some(({ bytesRead }) => bytesRead > 2 * MIB));
    attempt.cancel();
    await assert.rejects(attempt.done, { name: 'CancelledFailure' });
    assert.deepEqual(moversOf(disk), []);
  });

  it('empties the disk when the checksum is wrong', async () => {
    await using server = await serveFile(raw);
    const wrong = `sha256:${'0'.repeat(64)}`;
    const { disk, start } = await reserve(directory(), server, 16 * MIB, { checksum: wrong });
    const message = new RegExp(`^checksum mismatch: expected ${wrong}, calculated sha256:${sha256(raw)}$`);
    await assert.rejects(start().done, refusal('ChecksumMismatch', message, true));
    assert.equal(statSync(disk).size, 0);
  });

  it('starts from zero when the source has changed, and gives up at the third change', async () => {
    await using server = await serveFile(makePatterned(`${directory()}/changing.raw`, 96));
    server.rate = 4 * MIB;
    const { record, start, state } = await reserve(directory(), server, 96 * MIB);
    for (const change of [1, 2, 3]) {
      const attempt = start(change);
      const isDurable = (): boolean =>
        record().changes === change - 1 && (record().durable?.completed ?? 0) > 0;
      await until(attempt.done, () => existsSync(`${state}/record.json`) && isDurable());
      attempt.cancel();
      await assert.rejects(attempt.done);
      server.etag = `"v${change + 1}"`;
    }
    await assert.rejects(start(4).done, refusal('SourceChanged', /changed 3 times/, true));
  });

  it('gives up at the tenth attempt in a row that made nothing durable', async () => {
    await using server = await serveFile(raw);
    const { record, start, state } = await reserve(directory(), server, 16 * MIB);
    server.status = 404;
    await assert.rejects(start(1).done, refusal('SourceNotFound', /404/, true));
    writeFileSync(`${state}/record.json`, JSON.stringify({ ...record(), barren: 9 }));
    server.status = undefined;
    server.rate = 1;
    await server[Symbol.asyncDispose]();
    await assert.rejects(
      start(10).done,
      refusal('SourceUnavailable', /attempt 10 in a row without progress/, true),
    );
  });

  describe('whose process never comes to its record', () => {
    const missing = { childPath: '/nonexistent/child.js' };

    it('counts the attempts in the record, as the transfer user, and makes the tenth final', async () => {
      await using server = await serveFile(raw);
      const { record, start, state } = await reserve(directory(), server, 16 * MIB, {}, missing);
      const message = /^the transfer process ended with code 1 and said no result$/;
      await assert.rejects(start(1).done, refusal('NodeUnavailable', message, false));
      await assert.rejects(start(2).done, refusal('NodeUnavailable', message, false));
      assert.deepEqual(record(), { version: 1, fence: 2, barren: 2, changes: 0, bytesRead: 0 });
      const { uid, gid, mode } = statSync(`${state}/record.json`);
      const owner = USER ?? { uid: process.getuid?.(), gid: process.getgid?.() };
      assert.deepEqual({ uid, gid, readable: (mode & 0o600) === 0o600 }, { ...owner, readable: true });
      writeFileSync(`${state}/record.json`, JSON.stringify({ ...record(), barren: 9 }));
      await assert.rejects(
        start(10).done,
        refusal('NodeUnavailable', /attempt 10 in a row without progress/, true),
      );
    });

    it('does not fail for it when earlier attempts made progress, whatever the number of the attempt', async () => {
      await using server = await serveFile(raw);
      const { record, start, state } = await reserve(directory(), server, 16 * MIB, {}, missing);
      writeFileSync(
        `${state}/record.json`,
        JSON.stringify({ version: 1, fence: 39, barren: 0, changes: 0, bytesRead: MIB }),
      );
      await assert.rejects(start(40).done, refusal('NodeUnavailable', /ended with code 1/, false));
      assert.deepEqual(record(), { version: 1, fence: 40, barren: 1, changes: 0, bytesRead: MIB });
    });

    it('goes on from a record that the worker wrote', async () => {
      await using server = await serveFile(raw);
      let fails = true;
      const { disk, record, start } = await reserve(
        directory(),
        server,
        16 * MIB,
        {},
        {
          readRequest: async () => {
            if (fails) throw new SyntaxError(`Unexpected token in "password: hunter2"`);
            return {
              kind: 'http',
              url: server.url,
              headers: [],
              secretHeaders: [],
              insecureSkipVerify: false,
            };
          },
        },
      );
      const message = /^the transfer cannot start on node here: SyntaxError$/;
      await assert.rejects(start(1).done, refusal('NodeUnavailable', message, false));
      assert.equal(record().barren, 1);
      fails = false;
      await start(2).done;
      assert.equal(record().fence, 2);
      assert.equal(sha256(disk), sha256(raw));
    });

    it('counts by heartbeat while the target cannot be opened', async () => {
      await using server = await serveFile(raw);
      const { disk, start } = await reserve(directory(), server, 16 * MIB);
      rmSync(dirname(disk), { recursive: true });
      const message = /^the transfer cannot start on node here: Error ENOENT/;
      const attempt = start(2, { barren: 3 });
      await assert.rejects(attempt.done, refusal('NodeUnavailable', message, false));
      assert.equal(attempt.beats.at(-1)?.barren, 4);
      await assert.rejects(
        start(3, { barren: 9 }).done,
        refusal('NodeUnavailable', /attempt 10 in a row/, true),
      );
    });
  });

  it('waits as long as the source asks for', async () => {
    await using server = await serveFile(raw);
    server.status = 503;
    server.retryAfter = '300';
    const { start } = await reserve(directory(), server, 16 * MIB);
    await assert.rejects(start().done, (error) => {
      assert.ok(error instanceof ApplicationFailure);
      assert.deepEqual([error.type, error.nextRetryDelay], ['SourceUnavailable', 300_000]);
      return true;
    });
  });

  it('says by class only what nobody foresaw, and prints nothing', () => {
    const program = fileURLToPath(new URL('../../activities/image/child.ts', import.meta.url));
    const child = spawnSync(process.execPath, [...SOURCE_LOADER, program], {
      input: '{"password":hunter2}\n',
      encoding: 'utf8',
    });
    assert.deepEqual(JSON.parse(child.stdout), { failure: { message: 'SyntaxError', permanent: false } });
    assert.deepEqual([child.status, child.stderr], [1, '']);
  });

  it('fails by name when the image grows beyond the claim', async () => {
    const compressed = `${directory()}/big.raw.gz`;
    execFileSync('sh', ['-c', `gzip -1 < ${raw} > ${compressed}`]);
    await using server = await serveFile(compressed);
    const { start } = await reserve(directory(), server, 8 * MIB);
    await assert.rejects(
      start().done,
      refusal('LargerPVCRequired', /image needs at least \d+ bytes, claim team-a\/vm1 offers 8388608/, true),
    );
  });
});
