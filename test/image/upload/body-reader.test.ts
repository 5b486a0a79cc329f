import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { open, readFileSync } from 'node:fs';
import { mkdtemp, open as openFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readBody } from '../../../activities/image/upload/body-reader.js';

describe('the body of an upload in the process that decodes it', () => {
  let directory: string;
  beforeEach(async () => (directory = await mkdtemp(join(tmpdir(), 'dvflow-body-'))));
  afterEach(() => rm(directory, { recursive: true }));

  it('comes whole, in pieces that end on whole MiB where it keeps coming', async () => {
    execFileSync('sh', ['-c', 'head -c 5242999 /dev/urandom > file'], { cwd: directory });
    execFileSync('mkfifo', ['pipe'], { cwd: directory });
    spawn('sh', ['-c', 'cat file > pipe'], { cwd: directory, stdio: 'ignore' });
    const pieces: Buffer[] = [];
    for await (const piece of readBody(await promisify(open)(join(directory, 'pipe'), 'r')))
      pieces.push(piece);
    const all = Buffer.concat(pieces);
    assert.ok(all.equals(readFileSync(join(directory, 'file'))));
    // a machine that is busy may let some of them linger
    assert.ok(pieces.length < 40, `${pieces.length} pieces`);
  });

  it('is handed on while a client is slow, a byte at a time', async () => {
    execFileSync('mkfifo', ['pipe'], { cwd: directory });
    const path = join(directory, 'pipe');
    // either waits for the other
    const opening = promisify(open)(path, 'r');
    await using writer = await openFile(path, 'w');
    const body = readBody(await opening);
    for (const byte of ['1', '2', '3']) {
      await writer.write(byte);
      // which sends nothing more before it has come
      assert.equal(String((await body.next()).value), byte);
    }
    await writer.close();
    assert.deepEqual(await body.next(), { value: undefined, done: true });
  });

  it('is not read ahead of its reader without end', async () => {
    execFileSync('sh', ['-c', 'head -c 16M /dev/zero > file'], { cwd: directory });
    execFileSync('mkfifo', ['pipe'], { cwd: directory });
    const writer = spawn('sh', ['-c', 'cat file > pipe'], { cwd: directory, stdio: 'ignore' });
    let ended = false;
    writer.once('exit', () => (ended = true));
    const body = readBody(await promisify(open)(join(directory, 'pipe'), 'r'));
    const first = await body.next();
    assert.ok(!first.done);
    let bytes = first.value.length;
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.equal(ended, false, 'all was taken although nobody asked for it');
    for await (const piece of body) bytes += piece.length;
    assert.equal(bytes, 16 * 1024 * 1024);
  });
});
