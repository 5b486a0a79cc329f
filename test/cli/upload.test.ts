import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  mkdtemp,
  open,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, createServer, type AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { ApplicationFailure } from '../../activities/failures.js';
import { createBegunUploadStore } from '../../cli/upload/begun-upload.js';
import { sendFile, type Sending, type Sent } from '../../cli/upload/send.js';
import { openSourceFile } from '../../cli/upload/source-file.js';
import { CliError } from '../../cli/errors.js';
import { startTestGateway, uploadClaim, type TestGateway } from '../gateway/support.js';
import { openPaths } from '../support/open-files.js';
import { createAuthority, startServer } from '../support/servers/index.js';

const MIB = 1024 * 1024;

describe('dvflow upload', function () {
  this.timeout(30_000);
  let directory: string;
  let gateway: TestGateway;
  let content: Buffer;
  let file: string;
  let notices: string[];

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'dvflow-upload-'));
    gateway = await startTestGateway();
    content = randomBytes(5 * MIB);
    file = join(directory, 'disk.img');
    notices = [];
    await writeFile(file, content);
  });
  afterEach(async () => {
    await gateway.close();
    await rm(directory, { recursive: true });
  });

  interface Change extends Partial<Sending> {
    readonly path?: string;
    readonly target?: string;
  }

  async function send({ path = file, target = 'claim-uid', ...change }: Change = {}): Promise<Sent> {
    const source = await openSourceFile(path);
    return await sendFile({
      source,
      endpoint: `https://localhost:${gateway.server.port}/tus/uploads`,
      ca: gateway.authority.ca,
      token: () => gateway.token(),
      begun: createBegunUploadStore(join(directory, 'state'), { target, path }),
      onProgress: () => undefined,
      notice: (text) => notices.push(text),
      signal: new AbortController().signal,
      ...change,
    }).finally(() => source.close());
  }

  const remembered = (target = 'claim-uid') =>
    createBegunUploadStore(join(directory, 'state'), { target, path: file }).read();
  const session = () => [...gateway.dataPort.sessions.entries()][0] ?? ['', undefined];
  const durable = () => session()[1]?.durable ?? 0;

  it('sends a file, and remembers that it has', async () => {
    const checksum = `sha256:${'0'.repeat(64)}`;
    const sent = await send({ checksum });
    assert.deepEqual(sent, { bytes: content.length, bytesSent: content.length, resumed: false, retries: 0 });
    assert.deepEqual(await gateway.dataPort.content(session()[0]), content);
    assert.equal(gateway.opened[0]?.checksum, checksum);
    assert.equal(remembered()?.sent, true);
  });

  it('goes on by itself after a node and a gateway that go away, and sends hardly anything twice', async () => {
    gateway.dataPort.mood.slowMs = 5;
    gateway.dataPort.mood.cutAfterBytes = 2 * MIB;
    const sending = send();
    while (durable() < 2 * MIB) await pause(5);
    gateway.dataPort.mood.cutAfterBytes = undefined;
    const { port } = gateway.server;
    while (durable() < 3 * MIB) await pause(5);
    // as a rollout does: the new one has nothing of the old one but the address
    gateway.dataPort.mood.cutAfterBytes = 0;
    const stopped = gateway.server.close();
    await stopped;
    gateway.dataPort.mood.cutAfterBytes = undefined;
    const next = await startTestGateway({ beside: gateway, port });
    try {
      const { bytes, bytesSent, retries } = await sending;
      assert.equal(bytes, content.length);
      assert.ok(retries >= 2, `${retries} retries`);
      // all may have been on its way both times; what was durable by then is not sent again
      assert.ok(bytesSent <= 3 * content.length - 5 * MIB, `${bytesSent} bytes sent`);
      assert.ok(notices.length >= 2);
      assert.deepEqual(await gateway.dataPort.content(session()[0]), content);
      assert.equal(gateway.dataPort.sessions.size, 1);
    } finally {
      await next.close();
    }
  });

  it('that was interrupted goes on when it is called again; into another claim, or another file, it does not', async () => {
    content = randomBytes(16 * MIB);
    await writeFile(file, content);
    gateway.dataPort.mood.slowMs = 20;
    const interrupt = new AbortController();
    const first = send({ signal: interrupt.signal });
    first.catch(() => undefined);
    while (durable() < MIB) await pause(5);
    interrupt.abort(new CliError('interrupted', 130));
    await assert.rejects(first, /interrupted/);
    await pause(200);
    gateway.dataPort.mood.slowMs = 0;
    const before = durable();
    assert.ok(before >= MIB && before < content.length);
    const second = await send();
    assert.equal(second.resumed, true);
    assert.ok(
      second.bytesSent <= content.length - before,
      `${second.bytesSent} of ${content.length - before}`,
    );
    assert.equal(gateway.dataPort.sessions.size, 1);
    assert.deepEqual(await gateway.dataPort.content(session()[0]), content);
    assert.equal((await send({ target: 'another' })).resumed, false);
    assert.equal(gateway.dataPort.sessions.size, 2);
  });

  it('goes on by whatever way to the gateway is named now', async () => {
    gateway.dataPort.mood.cutAfterBytes = 2 * MIB;
    const stopped = new AbortController();
    const notice = (): void => stopped.abort(new CliError('stop', 1));
    await assert.rejects(send({ signal: stopped.signal, notice }), /stop/);
    gateway.dataPort.mood.cutAfterBytes = undefined;
    const location = `https://localhost:${gateway.server.port}/`;
    const ingress = await startServer((_, response) => void response.writeHead(308, { location }).end());
    const endpoint = `${ingress.url}/tus/uploads`;
    await assert.rejects(send({ endpoint }), /redirects an upload/).finally(() => ingress.close());
    assert.match(ingress.requests()[0]?.path ?? '', /^\/tus\/uploads\/./);
    assert.equal((await send()).resumed, true);
    assert.equal(gateway.dataPort.sessions.size, 1);
  });

  it('that is interrupted before its first byte sends none', async () => {
    const signal = AbortSignal.abort(new CliError('interrupted', 130));
    await assert.rejects(send({ signal }), /interrupted/);
    assert.equal(gateway.dataPort.sessions.size, 0);
  });

  it('ends at once where no other try helps, with the reason', async () => {
    const body = { type: 'ImageInvalid', message: 'not an image' };
    gateway.dataPort.mood.refuse = { status: 422, body, afterBytes: 0 };
    await assert.rejects(send(), (error: CliError) => {
      assert.equal(error.exitCode, 3);
      assert.match(error.message, /the upload was refused: Saving stream failed: not an image/);
      return true;
    });
    // not trusted by this machine
    await assert.rejects(send({ ca: '' }), (error: CliError) => {
      assert.equal(error.exitCode, 3);
      assert.match(
        error.message,
        /^the certificate of https:\/\/localhost:\d+ cannot be verified \(.*--ca-file/,
      );
      return true;
    });
    const tls = {
      ...(await (await createAuthority()).issue(['localhost'])),
      clientAuthority: gateway.authority.ca,
    };
    const guarded = await startServer((_, response) => void response.end(), { tls });
    try {
      const sending = send({ endpoint: `${guarded.url}/tus/uploads`, target: 'guarded', insecure: true });
      await assert.rejects(
        sending,
        /^CliError: https:\/\/localhost:\d+ wants a client certificate, and dvflow has none$/,
      );
    } finally {
      await guarded.close();
    }
    for (const [location, reason] of [
      [
        'https://uploads.test/tus/uploads?a=b',
        / \(HTTP 308\) to https:\/\/uploads\.test: name that one by --up/,
      ],
      [
        '/login?token=x',
        /^CliError: (\S+) redirects .* to \1\/login, and none is followed: is it the gateway\?$/,
      ],
    ] as const) {
      const ingress = await startServer((_, response) => void response.writeHead(308, { location }).end());
      try {
        await assert.rejects(send({ endpoint: `${ingress.url}/tus/uploads`, target: location }), reason);
        assert.equal(ingress.requests().length, 1);
        const endpoint = `https://127.0.0.1:${ingress.port}/tus/uploads`;
        await assert.rejects(
          send({ endpoint, target: location }),
          /server does not speak TLS: name the port/,
        );
      } finally {
        await ingress.close();
      }
    }
    await assert.rejects(
      send({ endpoint: 'ftp://localhost/tus/uploads', target: 'ftp' }),
      /nothing can be sent/,
    );
    assert.equal(notices.length, 0);
    gateway.claims.set('disk', uploadClaim({ size: '1' }));
    await writeFile(file, Buffer.alloc(0));
    await assert.rejects(send(), /is empty/);
  });

  it('goes on with the same upload after whatever answer to HEAD, and makes another one when it is gone', async function () {
    this.timeout(60_000);
    gateway.dataPort.mood.slowMs = 5;
    const answers = ['NodeUnavailable', 'KubernetesUnavailable', 'UploadInProgress'];
    gateway.onLocate = async (_claim, { session: of }) => {
      const type = answers.shift();
      if (type) throw ApplicationFailure.create({ type, message: type });
      gateway.dataPort.mood.away = false;
      return { session: of, offset: durable() };
    };
    const tokens = ['', 'a.b.c', ''];
    const token = async (): Promise<string> => tokens.shift() || (await gateway.token());
    const sending = send({ token });
    while (durable() < 2 * MIB) await pause(5);
    gateway.dataPort.mood.away = true;
    const { bytesSent, retries } = await sending;
    assert.ok(retries >= 5, `${retries} retries`);
    // all may have been on its way when the node went; what was durable by then is not sent again
    assert.ok(bytesSent <= 2 * content.length - 2 * MIB, `${bytesSent} bytes sent`);
    assert.equal(gateway.dataPort.sessions.size, 1);
    assert.deepEqual(await gateway.dataPort.content(session()[0]), content);
    // what is remembered is none of this claim any more
    const interrupted = new AbortController();
    gateway.dataPort.mood.cutAfterBytes = 0;
    const again = send({
      target: 'another',
      signal: interrupted.signal,
      notice: () => interrupted.abort(new CliError('stop', 1)),
    });
    await assert.rejects(again, /stop/);
    assert.equal(remembered('another')?.sent, undefined);
    assert.ok(remembered('another'));
    gateway.claims.set('disk', uploadClaim({ uid: 'another-uid' }));
    gateway.dataPort.mood.cutAfterBytes = undefined;
    await send({ target: 'another' });
    assert.equal(remembered('another')?.sent, true);
    assert.equal(gateway.dataPort.sessions.size, 3);
  });

  it('ends when the disk is refused after the connection has broken, and when what it fills has failed', async () => {
    gateway.dataPort.mood.judgeMs = 600;
    gateway.dataPort.mood.refuse = {
      status: 422,
      body: { type: 'ChecksumMismatch', message: 'another checksum' },
      afterBytes: content.length,
    };
    const proxy = await startCuttingProxy(gateway.server.port, () => durable() === content.length);
    const endpoint = `https://localhost:${proxy.port}/tus/uploads`;
    await assert.rejects(
      send({ endpoint }),
      /the upload was refused: Saving stream failed: another checksum/,
    );
    assert.equal(proxy.cuts, 1);
    proxy.close();
    Object.assign(gateway.dataPort.mood, { cutAfterBytes: 0, refuse: undefined });
    const check = async (): Promise<void> => await Promise.reject(new CliError('it has failed', 3));
    await assert.rejects(send({ check, target: 'another' }), /it has failed/);
  });

  it('reads the file no more after each try that breaks off, and closes it at the end', async () => {
    gateway.dataPort.mood.cutAfterBytes = MIB;
    const opened: number[] = [];
    async function check(): Promise<void> {
      opened.push(timesOpen(file));
      if (opened.length === 2) gateway.dataPort.mood.cutAfterBytes = undefined;
    }
    const { retries } = await send({ check });
    assert.ok(retries >= 2, `${retries} retries`);
    // and not of a connection on which the server still read the try before
    for (const notice of notices) assert.match(notice, /the data port/);
    assert.deepEqual([...new Set(opened)], [1]);
    assert.equal(timesOpen(file), 0);
    assert.deepEqual(await gateway.dataPort.content(session()[0]), content);
  });

  it('ends when the file is gone at another try', async () => {
    gateway.dataPort.mood.cutAfterBytes = MIB;
    const check = async (): Promise<void> => await rm(file);
    await assert.rejects(send({ check }), (error: CliError) => {
      assert.equal(error.exitCode, 3);
      assert.equal(error.message, `${file} cannot be read: ENOENT`);
      return true;
    });
    assert.equal(notices.length, 1);
  });

  const hasChanged = (error: CliError): boolean =>
    error.exitCode === 4 &&
    error.message ===
      `${file} has changed while it was read: the same command begins anew with what it is now`;

  const changes: Readonly<Record<string, () => Promise<void>>> = {
    'another file has taken its place': async () => {
      await writeFile(`${file}.new`, Buffer.alloc(content.length, 'B'));
      await rename(`${file}.new`, file);
    },
    'it was cut off': async () => await truncate(file, 4 * MIB),
    'it was written to, and the time of that put back': async () => {
      const { atime, mtime } = await stat(file);
      await writeFile(file, Buffer.alloc(content.length, 'B'));
      await utimes(file, atime, mtime);
    },
  };

  it('goes on with no other version of the file: it ends, and begins anew when it is called again', async () => {
    for (const [target, change] of Object.entries(changes)) {
      await writeFile(file, content);
      notices = [];
      gateway.dataPort.mood.cutAfterBytes = 2 * MIB;
      const before = gateway.dataPort.sessions.size;
      const latest = () => [...gateway.dataPort.sessions].at(-1) ?? ['', undefined];
      async function check(): Promise<void> {
        gateway.dataPort.mood.cutAfterBytes = undefined;
        await change();
      }
      await assert.rejects(send({ target, check }), hasChanged, target);
      assert.equal(notices.length, 1, target);
      assert.equal(latest()[1]?.complete, false, target);
      const { bytesSent, resumed } = await send({ target });
      const now = await readFile(file);
      assert.deepEqual([bytesSent, resumed], [now.length, false], target);
      assert.equal(notices.at(-1), `${file} has changed since the upload began: beginning anew`);
      assert.equal(gateway.dataPort.sessions.size, before + 2);
      assert.deepEqual(await gateway.dataPort.content(latest()[0]), now, target);
    }
  });

  it('never sends the end of a file that is written to while it is sent', async () => {
    await writeFile(file, Buffer.alloc(24 * MIB));
    gateway.dataPort.mood.slowMs = 20;
    const sending = send();
    sending.catch(() => undefined);
    while (durable() < MIB) await pause(5);
    const writer = await open(file, 'r+');
    await writer.write(Buffer.from('B'), 0, 1, 0);
    await writer.close();
    await assert.rejects(sending, hasChanged);
    assert.ok(durable() < 24 * MIB);
    assert.equal(session()[1]?.complete, false);
  });

  it('sends what a symbolic link names, and nothing of what it names later', async () => {
    const link = join(directory, 'current.img');
    await symlink(file, link);
    await writeFile(join(directory, 'other.img'), randomBytes(content.length));
    gateway.dataPort.mood.cutAfterBytes = 2 * MIB;
    async function check(): Promise<void> {
      gateway.dataPort.mood.cutAfterBytes = undefined;
      await rm(link);
      await symlink(join(directory, 'other.img'), link);
    }
    await assert.rejects(send({ path: link, check }), /current\.img has changed while it was read/);
    // back at what was begun
    await rm(link);
    await symlink(file, link);
    assert.equal((await send({ path: link })).resumed, true);
    assert.deepEqual(await gateway.dataPort.content(session()[0]), content);
  });

  it('begins anew with another checksum', async () => {
    gateway.dataPort.mood.cutAfterBytes = 2 * MIB;
    const stopped = new AbortController();
    const notice = (): void => stopped.abort(new CliError('stop', 1));
    await assert.rejects(send({ signal: stopped.signal, notice }), /stop/);
    gateway.dataPort.mood.cutAfterBytes = undefined;
    const checksum = `sha256:${'0'.repeat(64)}`;
    assert.equal((await send({ checksum })).resumed, false);
    assert.deepEqual(notices, ['another checksum is given since the upload began: beginning anew']);
    assert.equal(gateway.opened.at(-1)?.checksum, checksum);
  });

  it('asks for another token when one is too old', async () => {
    let asked = 0;
    const token = async (): Promise<string> => {
      asked += 1;
      return asked === 1 ? 'a.b.c' : await gateway.token();
    };
    const sent = await send({ token });
    assert.equal(sent.retries, 1);
    assert.equal(asked, 2);
  });
});

function timesOpen(path: string): number {
  return openPaths().filter((open) => open === path).length;
}

/** Passes connections on, and breaks the first one once. */
async function startCuttingProxy(port: number, when: () => boolean) {
  let cuts = 0;
  const server = createServer((from) => {
    const to = connect(port, 'localhost');
    for (const [one, other] of [[from, to] as const, [to, from] as const]) {
      one.pipe(other);
      one.on('error', () => other.destroy()).on('close', () => other.destroy());
    }
    const timer = setInterval(() => {
      if (cuts > 0 || !when()) return;
      cuts += 1;
      from.resetAndDestroy();
    }, 5);
    from.on('close', () => clearInterval(timer));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    get cuts() {
      return cuts;
    },
    close: () => server.close(),
  };
}
