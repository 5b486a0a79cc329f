import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import type { SourceRequest } from '../../activities/image/source/types.js';
import { sourceIdentity } from '../../cli/source-identity.js';
import { apart, commandLine } from './command.js';

const MIB = 1024 * 1024;
const BYTES = 40 * MIB;
/** Requests for what comes after this, but for the end of the disk, are not answered while the server stalls. */
const STALL = 24 * MIB;
const HEAD = {
  'accept-ranges': 'bytes',
  etag: '"1-2800000"',
  'last-modified': 'Thu, 01 Jan 1970 00:00:01 GMT',
} as const;

describe('a conversion that was interrupted', function () {
  this.timeout(60_000);
  const disks: Readonly<Record<string, Buffer>> = { a: randomBytes(BYTES), b: randomBytes(BYTES) };
  let home: string;
  let server: Server;
  let stalls = true;
  let expired = false;

  before(async () => {
    home = mkdtempSync(join(tmpdir(), 'dvflow-source-'));
    // disks of one length and one date: a server that makes its ETag of them has the same for both
    server = createServer(({ url = '', headers }, response) => {
      const disk = disks[url.charAt(1)];
      if (!disk) return response.writeHead(404).end();
      const [, from = '0', to = `${BYTES - 1}`] = /^bytes=(\d+)-(\d+)?/.exec(headers.range ?? '') ?? [];
      const [start, end] = [Number(from), Number(to)];
      if (stalls && start >= STALL && start < BYTES - MIB) return;
      if (expired && start >= STALL && !url.includes('second')) return response.writeHead(403).end();
      const range = { 'content-range': `bytes ${start}-${end}/${BYTES}` };
      response.writeHead(headers.range ? 206 : 200, {
        ...HEAD,
        'content-length': end + 1 - start,
        ...(headers.range ? range : {}),
      });
      return response.end(disk.subarray(start, end + 1));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  after(() => {
    server.closeAllConnections();
    server.close();
    rmSync(home, { recursive: true });
  });

  const url = (path: string): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}/${path}`;

  /** Begins to convert disk a, and interrupts that when some of it is durable. */
  async function interrupt(target: string): Promise<void> {
    stalls = true;
    const args = commandLine('convert', url('a.raw?X-Amz-Signature=first'), target);
    const child = spawn(process.execPath, args, { env: apart(home), stdio: 'ignore' });
    const written = (): number => statSync(target, { throwIfNoEntry: false })?.blocks ?? 0;
    while (child.exitCode === null && written() * 512 < STALL) await pause(20);
    child.kill('SIGINT');
    await once(child, 'close');
    assert.equal(child.exitCode, 130);
    assert.match(readFileSync(`${target}.dvflow/record.json`, 'utf8'), /"completed":[1-9]/);
    stalls = false;
  }

  /** What is said on standard error. */
  async function convert(path: string, target: string, code = 0): Promise<string> {
    const args = commandLine('convert', url(path), target);
    const child = spawn(process.execPath, args, { env: apart(home), stdio: ['ignore', 'ignore', 'pipe'] });
    const said = text(child.stderr);
    await once(child, 'close');
    assert.equal(child.exitCode, code, await said);
    return await said;
  }

  it('is not gone on with from another source, whatever that one shares with it', async () => {
    const target = join(home, 'other.img');
    await interrupt(target);
    assert.match(await convert('b.raw', target), /of another source: starting from zero/);
    assert.ok(readFileSync(target).equals(disks['b']!));
    assert.equal(existsSync(`${target}.dvflow`), false);
  });

  it('is kept where the other source is not there', async () => {
    const target = join(home, 'slip.img');
    await interrupt(target);
    assert.match(await convert('slip.raw', target, 3), /404 Not Found/);
    assert.match(await convert('a.raw', target), /resuming at offset [1-9]/);
    assert.ok(readFileSync(target).equals(disks['a']!));
  });

  it('stays where its signature expires, and goes on under another one', async () => {
    const target = join(home, 'expired.img');
    await interrupt(target);
    expired = true;
    const said = await convert('a.raw?X-Amz-Signature=first', target, 3);
    expired = false;
    assert.match(said, /what was written stays: the same command goes on[^]*SourceForbidden/);
    assert.match(await convert('a.raw?X-Amz-Signature=second', target), /resuming at offset [1-9]/);
    assert.ok(readFileSync(target).equals(disks['a']!));
  });

  it('goes on from the same source under another signature', async () => {
    const target = join(home, 'same.img');
    await interrupt(target);
    assert.match(await convert('a.raw?X-Amz-Signature=second', target), /resuming at offset [1-9]/);
    assert.ok(readFileSync(target).equals(disks['a']!));
  });
});

describe('the identity of a source', () => {
  const http = (address: string): SourceRequest => ({
    kind: 'http',
    url: address,
    headers: [],
    secretHeaders: [],
    insecureSkipVerify: false,
  });
  const same = (left: string, right: string): boolean =>
    sourceIdentity(http(left)) === sourceIdentity(http(right));

  it('holds no credentials and no signature', () => {
    assert.ok(same('https://h/a', 'https://user:secret@h/a#part'));
    assert.ok(
      same(
        'https://h/a?versionId=1&X-Amz-Date=1&X-Amz-Signature=x',
        'https://h/a?versionId=1&X-Amz-Date=3&X-Amz-Signature=y',
      ),
    );
    assert.ok(same('https://h/a?sv=1&se=2&sr=b&sp=r&sig=x', 'https://h/a?sv=1&se=3&sr=b&sp=r&sig=y'));
    assert.ok(
      same(
        'https://h/a?Expires=1&Signature=x&Key-Pair-Id=k',
        'https://h/a?Expires=2&Signature=y&Key-Pair-Id=k',
      ),
    );
    assert.doesNotMatch(sourceIdentity(http('https://user:secret@h/a')), /secret|user/);
  });

  it('is of host, path and the rest of the query', () => {
    assert.ok(!same('https://h/a', 'https://h/b'));
    assert.ok(!same('https://h/a', 'https://i/a'));
    assert.ok(!same('https://h/?file=a', 'https://h/?file=b'));
    assert.ok(!same('https://h/a?versionId=1', 'https://h/a?versionId=2'));
    // keys of signatures that are none where nothing is signed
    assert.ok(!same('https://h/get?token=1', 'https://h/get?token=2'));
    assert.ok(!same('https://h/get?sv=3', 'https://h/get?sv=4'));
    assert.ok(!same('https://h/get?expires=1', 'https://h/get?expires=2'));
    const object = (url: string): string => sourceIdentity({ kind: 's3', url, ambient: true });
    assert.notEqual(object('s3://b/disk#1.img'), object('s3://b/disk#2.img'));
    const registry = { kind: 'registry', url: 'docker://r/i:1', insecure: false } as const;
    assert.notEqual(sourceIdentity(registry), sourceIdentity({ ...registry, architecture: 'arm64' }));
    assert.notEqual(
      sourceIdentity({ kind: 'file', path: '/a' }),
      sourceIdentity({ kind: 'file', path: '/b' }),
    );
  });
});
