import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { failureTypeOf } from '../../../activities/failures.js';
import { confineCommand } from '../../../activities/image/sandbox/confine-command.js';
import {
  findSandbox,
  sandboxes,
  type Sandbox,
  type SandboxedEnd,
  type SandboxedProgram,
} from '../../../activities/image/sandbox/sandbox.js';
import { MIB } from '../support/images.js';

const LIMITS = { memoryBytes: 512 * MIB, cpuSeconds: 20 };

/** What bash says when it is given this script in the sandbox. */
function bash(sandbox: Sandbox, script: string, more: Partial<SandboxedProgram> = {}): Promise<SandboxedEnd> {
  return sandbox.run({ file: 'bash', args: ['-c', script], sockets: 0, ...LIMITS, ...more }).ended;
}

// as an ordinary user too, where the tests are root's
const WAYS = [...sandboxes(process.getuid!()), ...(process.getuid!() === 0 ? sandboxes(1).slice(0, 1) : [])];

for (const [index, sandbox] of WAYS.entries())
  describe(`way ${index + 1} of ${WAYS.length} to run a program in a sandbox`, function () {
    this.timeout(30_000);
    let directory = '';
    let secret = '';
    let server: Server;
    let connect = '';

    before(async function () {
      // which ways there are is up to the machine; that there is one is a test of its own
      if ((await bash(sandbox, 'true')).code !== 0) return this.skip();
      directory = mkdtempSync(join(tmpdir(), 'dvflow-sandbox-'));
      execFileSync('chmod', ['755', directory]);
      secret = join(directory, 'secret');
      writeFileSync(secret, 'secret', { mode: 0o666 });
      server = createServer((socket) => socket.end());
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      connect = `exec 9<>/dev/tcp/127.0.0.1/${(server.address() as AddressInfo).port}`;
    });
    after(() => {
      if (directory === '') return;
      server.close();
      rmSync(directory, { recursive: true });
    });

    it('cannot connect, not even to loopback', async () => {
      execFileSync('bash', ['-c', connect]);
      const end = await bash(sandbox, connect);
      assert.notEqual(end.code, 0);
      assert.match(end.stderr, /Network is unreachable|Operation not permitted/);
    });

    /** Which of these attempts succeed inside, though all may be tried; one bash, because starting a sandbox takes its time. */
    async function succeeding(attempts: readonly string[]): Promise<string[]> {
      const script = attempts
        .map((attempt, at) => `if (${attempt}) 2>&-; then echo ${at} >&2; fi`)
        .join('\n');
      const end = await bash(sandbox, `${script}\nexit 0`);
      assert.equal(end.code, 0, end.stderr);
      return end.stderr
        .split('\n')
        .filter(Boolean)
        .map((at) => attempts[Number(at)] ?? at);
    }

    it('reads no file but programs and libraries', async () => {
      const files = [secret, '/etc/hostname', '/proc/self/environ', `/proc/${process.pid}/maps`, '/dev/zero'];
      const attempts = files.map((path) => `exec 9< ${path}`);
      for (const attempt of attempts) execFileSync('bash', ['-c', attempt]);
      assert.deepEqual(await succeeding([...attempts, 'exec 9< /usr/bin/qemu-img']), [
        'exec 9< /usr/bin/qemu-img',
      ]);
    });

    it('writes nowhere', async () => {
      const files = [secret, join(directory, 'new'), '/tmp/new', '/new', '/usr/new', '/usr/lib/new'];
      assert.deepEqual(await succeeding(files.map((path) => `: >> ${path} && echo x >> ${path}`)), []);
      assert.equal(readFileSync(secret, 'utf8'), 'secret');
    });

    it('has no privileges, and no way to others', async () => {
      const attempts = [
        `kill -0 ${process.pid}`,
        'mount -t tmpfs none /usr',
        'chroot / true',
        'unshare --user true',
        'setpriv --reuid 1 true',
      ];
      assert.deepEqual(await succeeding([...attempts, 'true']), ['true']);
    });

    it('has its sockets, and gets no other descriptor and no environment of ours', async () => {
      process.env['DVFLOW_TEST_SECRET'] = 'secret';
      const script = 'read -r line <&3; echo "got $line" >&3; echo "$DVFLOW_TEST_SECRET" >&4; : >&5';
      const running = sandbox.run({ file: 'bash', args: ['-c', script], sockets: 2, ...LIMITS });
      const [first, second] = running.sockets as [Duplex, Duplex];
      first.write('hello\n');
      assert.equal(String(((await once(first, 'data')) as [Buffer])[0]), 'got hello\n');
      assert.equal(String(((await once(second, 'data')) as [Buffer])[0]), '\n');
      assert.match((await running.ended).stderr, /5: Bad file descriptor/);
    });

    it('is bounded in memory', async () => {
      const allocate = 'printf -v x "%*s" 30000000 x';
      assert.equal((await bash(sandbox, allocate)).code, 0);
      assert.notEqual((await bash(sandbox, allocate, { memoryBytes: 32 * MIB })).code, 0);
    });

    it('is bounded in time', async () => {
      const end = await bash(sandbox, 'while :; do :; done', { cpuSeconds: 1 });
      assert.notEqual(end.code, 0);
    });

    it('is seen to work, and to wait', async () => {
      const script = 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo >&3; read -r line <&3';
      const running = sandbox.run({ file: 'bash', args: ['-c', script], sockets: 1, ...LIMITS });
      await once(running.sockets[0]!, 'data');
      const worked = running.cpuSeconds();
      assert.ok(worked > 0.05 && worked < LIMITS.cpuSeconds, `${worked} s`);
      await sleep(500);
      assert.ok(running.cpuSeconds() - worked < 0.05, 'it waits');
      running.kill();
      await running.ended;
      assert.ok(running.cpuSeconds() >= worked);
    });

    it('ends at once when told to, with all that it started', async () => {
      const running = sandbox.run({
        file: 'bash',
        args: ['-c', 'bash -c "echo >&3; while :; do read -t 1 <> <(:) ; done" & wait'],
        sockets: 1,
        ...LIMITS,
      });
      await once(running.sockets[0]!, 'data');
      running.kill();
      assert.equal((await running.ended).killedBy, 'SIGKILL');
      const [socket] = running.sockets as [Duplex];
      const isOver = (): boolean => !socket.readable || socket.readableEnded || socket.destroyed;
      for (let tries = 0; tries < 200 && !isOver(); tries += 1) await sleep(50);
      assert.ok(isOver(), 'what it started holds the socket');
    });

    it('says how a program ended', async () => {
      assert.deepEqual(await bash(sandbox, 'echo why >&2; exit 7'), {
        code: 7,
        killedBy: null,
        stderr: 'why\n',
      });
    });
  });

describe('without a way to run a program in a sandbox', () => {
  it('does not run it, and says what is missing', async () => {
    const never: Sandbox = {
      run: () => ({
        sockets: [],
        ended: Promise.resolve({ code: 1, killedBy: null, stderr: '' }),
        cpuSeconds: () => 0,
        kill: () => undefined,
      }),
    };
    await assert.rejects(findSandbox([never]), (error) => {
      assert.equal(failureTypeOf(error), 'NodeUnavailable');
      assert.match(String(error), /no sandbox for qemu-img: user namespaces are forbidden/);
      return true;
    });
  });

  it('says so by an end of its own, where it cannot confine or run a program', () => {
    const [node = '', ...args] = [...confineCommand(0), '/no-such-program'];
    const { status, stderr } = spawnSync(node, args, { encoding: 'utf8' });
    assert.equal(status, 126);
    assert.match(stderr, /^Error: .+\n$/);
  });

  it('finds one here', async () => {
    assert.equal(
      (await (await findSandbox()).run({ file: 'true', args: [], sockets: 0, ...LIMITS }).ended).code,
      0,
    );
  });
});
