import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { open, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readBody } from '../../../activities/image/upload/body-reader.js';

describe('the body of an upload in the process that decodes it', () => {
  let directory: string;
  beforeEach(async () => (directory = await mkdtemp(join(tmpdir(), 'dvflow-body-'))));
  afterEach(() => rm(directory, { recursive: true }));

  /** Reads what a shell command writes; each piece with when it came, in ms. */
  async function read(command: string): Promise<{ readonly piece: Buffer; readonly at: number }[]> {
    execFileSync('mkfifo', ['pipe'], { cwd: directory });
    spawn('sh', ['-c', `(${command}) > pipe`], { cwd: directory, stdio: 'ignore' });
    const fd = await promisify(open)(join(directory, 'pipe'), 'r');
    const began = performance.now();
    const pieces: { piece: Buffer; at: number }[] = [];
    for await (const piece of readBody(fd)) pieces.push({ piece, at: performance.now() - began });
    return pieces;
  }

  it('comes whole, in pieces that end on whole MiB where it keeps coming', async () => {
    execFileSync('sh', ['-c', 'head -c 5242999 /dev/urandom > file'], { cwd: directory });
    const pieces = await read('cat file');
    const all = Buffer.concat(pieces.map(({ piece }) => piece));
    assert.ok(all.equals(readFileSync(join(directory, 'file'))));
    // a machine that is busy may let some of them linger
    assert.ok(pieces.length < 40, `${pieces.length} pieces`);
  });

  it('is handed on while a client is slow, a byte at a time', async () => {
    const pieces = await read('for i in 1 2 3; do printf $i; sleep 0.5; done');
    assert.deepEqual(
      pieces.map(({ piece }) => piece.toString()),
      ['1', '2', '3'],
    );
    const [first, second] = pieces;
    assert.ok((second?.at ?? 0) - (first?.at ?? 0) > 250);
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
