import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { apart, commandLine, runDvflow } from './command.js';

const DISK = randomBytes(3 * 1024 * 1024 + 512);
// what is random may begin like a gzip
DISK.fill(0, 0, 512);

describe('dvflow convert leaves alone what is not its own', function () {
  this.timeout(60_000);
  let home: string;
  let disk: string;
  let slow: Server;
  const running = new Set<ChildProcess>();

  before(async () => {
    home = mkdtempSync(join(tmpdir(), 'dvflow-convert-'));
    disk = join(home, 'disk.raw');
    writeFileSync(disk, DISK);
    spawnSync('tar', ['-cf', join(home, 'disk.tar'), '-C', home, 'disk.raw']);
    // begins to answer, and does not go on
    slow = createServer(({ url }, response) => {
      const content = readFileSync(join(home, `${url}`));
      response
        .writeHead(200, { 'content-length': content.length })
        .write(content.subarray(0, 2 * 1024 * 1024));
    }).listen(0, '127.0.0.1');
    await once(slow, 'listening');
  });
  after(() => {
    slow.closeAllConnections();
    slow.close();
    rmSync(home, { recursive: true });
  });
  afterEach(async () => {
    for (const child of running) if (child.kill('SIGKILL')) await once(child, 'exit');
    running.clear();
  });

  const command = (...args: string[]): string[] => commandLine('convert', ...args);
  const env = (): NodeJS.ProcessEnv => apart(home);
  const convert = (...args: string[]) => runDvflow(['convert', ...args], { env: env(), timeoutMs: 30_000 });

  /** A conversion that is under way, and will not end by itself. */
  async function begin(target: string, ...more: string[]): Promise<ChildProcess> {
    const asked = once(slow, 'request');
    const { port } = slow.address() as AddressInfo;
    const url = `http://127.0.0.1:${port}/${more.includes('archive') ? 'disk.tar' : 'disk.raw'}`;
    const child = spawn(process.execPath, command(url, target, ...more), { env: env(), stdio: 'ignore' });
    running.add(child);
    await asked;
    while (!existsSync(`${target}.dvflow/record.json`)) await pause(10);
    return child;
  }

  it('is interrupted by Ctrl-C on a terminal, which signals a group', async () => {
    spawnSync('xz', ['--keep', '-0', disk]);
    const { port } = slow.address() as AddressInfo;
    const args = command(`http://127.0.0.1:${port}/disk.raw.xz`, join(home, 'interrupted.img'));
    const stdio = ['ignore', 'ignore', 'pipe'] as const;
    const child = spawn(process.execPath, args, { env: env(), stdio: [...stdio], detached: true });
    running.add(child);
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    const { pid = 0 } = child;
    /** Empty of a process that has ended. */
    const statOf = (id: string): string => {
      try {
        return readFileSync(`/proc/${id}/stat`, 'utf8');
      } catch {
        return '';
      }
    };
    /** Groups of the tools that run, which is the fifth field of their line in `/proc`. */
    const groups = (): readonly string[] =>
      readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
        .split(' ')
        .filter((id) => id !== '')
        .map((id) => statOf(id).split(' '))
        .filter(([, name]) => name === '(xz)')
        .map(([, , , , group]) => `${group}`);
    while (groups().length === 0) await pause(10);
    // which of the two is told first is chance: the tool must not be reached at all
    assert.ok(!groups().includes(`${pid}`), 'the tool is in the group of its terminal');
    process.kill(-pid, 'SIGINT');
    const [code] = (await once(child, 'close')) as [number | null];
    assert.equal(code, 130, said);
    assert.match(said, /interrupted: the same command goes on/);
  });

  function archive(name: string): string {
    mkdirSync(join(home, `${name}-files`));
    writeFileSync(join(home, `${name}-files`, 'file'), 'content');
    const tar = join(home, `${name}.tar`);
    assert.equal(spawnSync('tar', ['-cf', tar, '-C', join(home, `${name}-files`), 'file']).status, 0);
    return tar;
  }

  it('what else lies in the directory that --state names, and the directory', () => {
    const state = join(home, 'state');
    mkdirSync(join(state, 'precious'), { recursive: true });
    writeFileSync(join(state, 'precious', 'data'), 'keep');
    assert.equal(convert(disk, join(home, 'stated'), '--state', state).status, 0);
    const damaged = convert(
      disk,
      join(home, 'stated'),
      '--state',
      state,
      '--checksum',
      `md5:${'0'.repeat(32)}`,
    );
    assert.match(damaged.stderr, /ChecksumMismatch/);
    assert.deepEqual(readdirSync(state), ['precious']);
    assert.equal(readFileSync(join(state, 'precious', 'data'), 'utf8'), 'keep');
  });

  it('a target that another conversion fills', async () => {
    const target = join(home, 'shared');
    await begin(target);
    const second = convert(disk, target);
    assert.match(second.stderr, /ResourceExists: .* is in use by another process/);
    assert.equal(second.status, 3);
    assert.ok(existsSync(target) && existsSync(`${target}.dvflow`), 'what belongs to the first is gone');
  });

  /** A conversion over whose target something else is put before the source goes on, or the conversion is told to end. */
  async function replaced(
    name: string,
    take: (target: string) => void,
    end: 'go on' | 'SIGINT',
    ...more: string[]
  ) {
    const target = join(home, name);
    const gate = Promise.withResolvers<undefined>();
    const server = createServer((_, response) => {
      response.writeHead(200, { 'content-length': DISK.length }).write(DISK.subarray(0, 2 * 1024 * 1024));
      void gate.promise.then(() => response.end(DISK.subarray(2 * 1024 * 1024)));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const args = command(`http://127.0.0.1:${port}/disk.raw`, target, ...more);
    const child = spawn(process.execPath, args, { env: env(), stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(child);
    let said = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
    while (!existsSync(`${target}.dvflow/record.json`)) await pause(10);
    take(target);
    writeFileSync(target, 'precious');
    if (end === 'go on') gate.resolve(undefined);
    else child.kill(end);
    const [code] = (await once(child, 'close')) as [number | null];
    gate.resolve(undefined);
    server.closeAllConnections();
    server.close();
    return { target, code, said };
  }

  const moved = (target: string): void => renameSync(target, `${target}.aside`);

  for (const [what, take, end, code, ...more] of [
    ['removed', rmSync, 'go on', 3],
    ['moved', moved, 'go on', 3, '--sha256-of-disk'],
    ['moved', moved, 'go on', 3, '--checksum', `md5:${'0'.repeat(32)}`],
    ['moved', moved, 'SIGINT', 130],
  ] as const) {
    it(`a file in the place of its target, which was ${what} (${[end, ...more.slice(0, 1)].join(', ')})`, async () => {
      const {
        target,
        code: ended,
        said,
      } = await replaced(`${what}-${end}${more.length}`, take, end, ...more);
      assert.equal(ended, code, said);
      assert.equal(readFileSync(target, 'utf8'), 'precious');
      assert.ok(!existsSync(`${target}.dvflow`), 'a record that is of no use');
    });
  }

  it('whoever removes its state while it runs, and goes on', async () => {
    const target = join(home, 'stateless');
    const child = await begin(target);
    // it may write there meanwhile
    rmSync(`${target}.dvflow`, { recursive: true, maxRetries: 5, retryDelay: 50 });
    child.kill('SIGINT');
    const [code] = (await once(child, 'exit')) as [number | null];
    assert.equal(code, 130);
  });

  it('a directory that another conversion fills', async () => {
    const target = join(home, 'shared-directory');
    await begin(target, '--content-type', 'archive');
    const second = convert(archive('second'), target, '--content-type', 'archive');
    assert.match(second.stderr, /ResourceExists: .* is in use by another process/);
  });

  it('its own source, by whatever name', () => {
    const [copy, hard, soft] = ['copy', 'hard', 'soft'].map((name) => join(home, name)) as [
      string,
      string,
      string,
    ];
    copyFileSync(disk, copy);
    linkSync(copy, hard);
    symlinkSync(copy, soft);
    for (const [source, name] of [
      [copy, copy],
      [copy, hard],
      [soft, copy],
      [`oci-archive:${copy}`, hard],
    ] as const) {
      const { status, stderr } = convert(source, name);
      assert.match(stderr, /is the source itself/);
      assert.equal(status, 2);
    }
    assert.ok(readFileSync(copy).equals(DISK));
  });

  it('a directory that has taken the place of one that a killed conversion began', async () => {
    const target = join(home, 'unpacked');
    const killed = await begin(target, '--content-type', 'archive');
    killed.kill('SIGKILL');
    await once(killed, 'exit');
    rmSync(target, { recursive: true });
    mkdirSync(target);
    writeFileSync(join(target, 'thesis'), 'mine');
    const refused = convert(archive('other'), target, '--content-type', 'archive');
    assert.match(refused.stderr, /ResourceExists: .* is not empty/);
    assert.deepEqual(readdirSync(target), ['thesis']);
    assert.equal(existsSync(`${target}.dvflow`), false, 'the state of nothing is left');
  });

  it('an empty directory that an archive is not unpacked into, while its own one goes', () => {
    const own = join(home, 'own directory');
    mkdirSync(own);
    for (const target of [own, join(home, 'made directory')]) {
      const { status, stderr } = convert(disk, target, '--content-type', 'archive');
      assert.match(stderr, /^dvflow: ContentTypeNotSupported: /m);
      assert.equal(status, 3);
      assert.equal(existsSync(target), target === own);
    }
  });

  it('but goes on in the directory that it began itself', async () => {
    const target = join(home, 'again');
    const killed = await begin(target, '--content-type', 'archive');
    killed.kill('SIGKILL');
    await once(killed, 'exit');
    writeFileSync(join(target, 'half'), 'of a file');
    assert.equal(convert(archive('again'), target, '--content-type', 'archive').status, 0);
    assert.deepEqual(readdirSync(target), ['file']);
  });

  it("a user's link to a file that is not there", () => {
    const link = join(home, 'link');
    symlinkSync(join(home, 'nowhere'), link);
    const { stderr } = convert(disk, link, '--checksum', `md5:${'0'.repeat(32)}`);
    assert.match(stderr, /ChecksumMismatch/);
    assert.ok(readdirSync(home).includes('link'));
    assert.equal(existsSync(join(home, 'nowhere')), false);
  });

  it('and says in one typed line where a place is none', () => {
    const file = join(home, 'file');
    writeFileSync(file, '');
    const { status, stderr } = convert(disk, join(home, 'new'), '--state', file);
    assert.match(stderr, /^dvflow: ResourceExists: .*file is no place for it \(EEXIST\)$/m);
    assert.equal(status, 3);
    assert.equal(existsSync(join(home, 'new')), false, 'the target that was made for nothing');
    assert.match(
      convert(disk, `${join(home, 'missing')}/`).stderr,
      /ResourceExists: .* \((?:EISDIR|ENOENT)\)/,
    );
  });

  it('and ends where the system has no place for a directory, whatever lies around it', () => {
    for (const args of [
      [disk, join(home, 'placeless'), '--state', '/proc/none'],
      [join(home, 'disk.tar'), '/proc/none', '--content-type', 'archive'],
    ]) {
      const { status, stderr } = convert(...args);
      assert.match(stderr, /^dvflow: ResourceExists: \/proc\/none is no place for it \(ENOENT\)$/m);
      assert.equal(status, 3);
    }
  });

  it('and keeps to itself what an address with a space before it holds', () => {
    const { stderr } = convert(
      ' http://u:pass@127.0.0.1:1/x?token=secret',
      join(home, 'new'),
      '--denied-sources',
      '127.0.0.0/8',
    );
    assert.match(stderr, /^dvflow: Source/m);
    assert.doesNotMatch(stderr, /pass|secret/);
  });

  it('goes on when nobody reads what it says, and fails where it cannot say it', () => {
    const program = command(disk, join(home, 'unheard'))
      .map((word) => `'${word}'`)
      .join(' ');
    const unheard = spawnSync(
      'bash',
      ['-c', `'${process.execPath}' ${program} | true; exit \${PIPESTATUS[0]}`],
      {
        env: env(),
        encoding: 'utf8',
      },
    );
    assert.deepEqual([unheard.status, unheard.stderr], [0, '']);
    const full = spawnSync('bash', ['-c', `'${process.execPath}' ${program} > /dev/full`], {
      env: env(),
      encoding: 'utf8',
    });
    assert.equal(full.status, 1);
    assert.match(full.stderr, /^dvflow: output cannot be written: ENOSPC[^\n]*\n$/);
    assert.ok(readFileSync(join(home, 'unheard')).equals(DISK));
  });
});
