/** Workers as processes of their own, told to end while Temporal is away: nothing is under way then, and nothing is waited for. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { projectPath } from '../docs/documents.js';
import { SOURCE_LOADER } from '../support/source-loader.js';

describe('a worker that is told to end while Temporal', function () {
  // a connection to a server that is silent is given up after half a minute
  this.timeout(25_000);
  let directory: string;
  let server: Server;
  let worker: ChildProcess | undefined;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'dvflow-workers-'));
  });
  beforeEach(async () => {
    server = createServer((socket) => socket.on('error', () => undefined)).listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterEach(() => {
    worker?.kill('SIGKILL');
    server.close();
  });
  after(() => rm(directory, { recursive: true, force: true }));

  function start(role: string): ChildProcess {
    const address = server.address();
    assert.ok(address && typeof address === 'object');
    const env = {
      PATH: process.env['PATH'],
      XDG_CACHE_HOME: directory,
      TEMPORAL_ADDRESS: `127.0.0.1:${address.port}`,
      DVFLOW_STATE_DIRECTORY: join(directory, 'state'),
      DVFLOW_DEVICE_DIRECTORY: join(directory, 'devices'),
    };
    const args = [...SOURCE_LOADER, projectPath('cli/main.ts'), 'worker', role];
    return (worker = spawn(process.execPath, args, { env, stdio: ['ignore', 'ignore', 'pipe'] }));
  }

  /** Resolves with the code and the signal that it ended with. */
  async function tell(child: ChildProcess): Promise<unknown> {
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    return await ended;
  }

  for (const role of ['control', 'node', 'gateway'])
    it(`refuses connections ends with 0: ${role}`, async () => {
      const child = start(role);
      await new Promise((closed) => server.close(closed));
      assert.ok(child.stderr);
      for await (const line of createInterface({ input: child.stderr }))
        if (line.includes('Temporal does not answer yet')) break;
      assert.deepEqual(await tell(child), [0, null]);
    });

  it('takes connections and says nothing ends with 0', async () => {
    const child = start('gateway');
    await once(server, 'connection');
    assert.deepEqual(await tell(child), [0, null]);
  });
});
