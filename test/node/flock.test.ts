import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { open, type FileHandle } from 'node:fs/promises';
import { flock } from '../../activities/node/flock.js';
import { useDirectory } from '../image/support/images.js';

describe('flock', () => {
  const directory = useDirectory();
  let path = '';
  const opened: FileHandle[] = [];
  const children: ChildProcess[] = [];

  beforeEach(() => {
    path = `${directory()}/lock-${opened.length}`;
  });
  afterEach(async () => {
    for (const file of opened) await file.close();
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });

  /** A description of its own. */
  async function opening(): Promise<FileHandle> {
    const file = await open(path, 'w');
    opened.push(file);
    return file;
  }

  it('is refused while another description holds the lock, and had once that is closed', async () => {
    const [holder, other] = [await opening(), await opening()];
    assert.deepEqual(await flock(holder.fd, 0), { code: 0, said: '' });
    assert.equal((await flock(other.fd, 0)).code, 1);
    await holder.close();
    assert.equal((await flock(other.fd, 0)).code, 0);
  });

  it('holds for a process that has inherited the descriptor, until that ends', async () => {
    const holder = await opening();
    assert.equal((await flock(holder.fd, 0)).code, 0);
    const heir = spawn('sleep', ['60'], { stdio: ['ignore', 'ignore', 'ignore', holder.fd] });
    children.push(heir);
    await once(heir, 'spawn');
    await holder.close();
    const other = await opening();
    assert.equal((await flock(other.fd, 0)).code, 1);
    heir.kill('SIGKILL');
    assert.equal((await flock(other.fd, 30)).code, 0);
  });

  it('waits for a lock that the tool of util-linux holds', async () => {
    const other = await opening();
    const tool = spawn('flock', ['-x', path, '-c', 'echo locked; read line'], {
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    children.push(tool);
    await once(tool.stdout, 'data');
    const waiting = flock(other.fd, 30);
    assert.equal((await flock(other.fd, 0)).code, 1);
    tool.stdin.end('\n');
    assert.equal((await waiting).code, 0);
  });
});
