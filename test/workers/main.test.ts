/** Workers as processes of their own, told to end while Temporal is away: nothing is under way then, and nothing is waited for. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type Server } from 'node:net';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { startTemporal } from '../client/temporal.js';
import { projectPath } from '../docs/documents.js';
import { freePort } from '../support/free-port.js';
import { SOURCE_LOADER } from '../support/source-loader.js';

describe('a worker that is told to end while Temporal', function () {
  // some start Temporal, and all a worker from its sources
  this.timeout(60_000);
  let directory: string;
  let server: Server;
  let port: number;
  let worker: ChildProcess | undefined;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'dvflow-workers-'));
  });
  beforeEach(async () => {
    port = await freePort();
    server = createServer((socket) => socket.on('error', () => undefined)).listen(port, '127.0.0.1');
    await once(server, 'listening');
  });
  afterEach(() => {
    worker?.kill('SIGKILL');
    server.close();
  });
  after(() => rm(directory, { recursive: true, force: true }));

  function start(role: string, more: NodeJS.ProcessEnv = {}): ChildProcess {
    const env = {
      PATH: process.env['PATH'],
      XDG_CACHE_HOME: directory,
      TEMPORAL_ADDRESS: `127.0.0.1:${port}`,
      DVFLOW_STATE_DIRECTORY: join(directory, 'state'),
      DVFLOW_DEVICE_DIRECTORY: join(directory, 'devices'),
      ...more,
    };
    const args = [...SOURCE_LOADER, projectPath('cli/main.ts'), 'worker', role];
    return (worker = spawn(process.execPath, args, { env, stdio: ['ignore', 'ignore', 'pipe'] }));
  }

  /** Resolves with the code and the signal that it ended with. */
  async function tell(child: ChildProcess): Promise<unknown> {
    const ended = once(child, 'exit');
    const toldAt = performance.now();
    child.kill('SIGTERM');
    const end: unknown = await ended;
    // a connection to a server that is silent is given up after half a minute
    assert.ok(performance.now() - toldAt < 25_000, 'it has waited for Temporal');
    return end;
  }

  for (const [role, says] of [
    ['control', 'Temporal does not answer yet'],
    ['node', 'Temporal does not answer yet'],
    // it serves meanwhile
    ['gateway', 'worker started'],
  ] as const)
    it(`refuses connections ends with 0: ${role}`, async () => {
      const child = start(role, role === 'gateway' ? await gatewaySettings() : {});
      await new Promise((closed) => server.close(closed));
      assert.ok(child.stderr);
      for await (const line of createInterface({ input: child.stderr })) if (line.includes(says)) break;
      assert.deepEqual(await tell(child), [0, null]);
    });

  async function gatewaySettings(): Promise<NodeJS.ProcessEnv> {
    const kubeconfig = join(directory, 'kubeconfig.yaml');
    const clusters = [{ name: 'none', cluster: { server: 'https://127.0.0.1:1' } }];
    const contexts = [{ name: 'none', context: { cluster: 'none', user: '' } }];
    await writeFile(kubeconfig, JSON.stringify({ clusters, contexts, 'current-context': 'none' }));
    return {
      KUBECONFIG: kubeconfig,
      DVFLOW_GATEWAY_ADDRESS: `127.0.0.1:${await freePort()}`,
      DVFLOW_TLS_DIRECTORY: directory,
    };
  }

  it('refuses connections has its metrics when Temporal is there', async () => {
    const temporal = await startTemporal();
    const metrics = await freePort();
    const child = start('node', { DVFLOW_METRICS_ADDRESS: `127.0.0.1:${metrics}`, DVFLOW_NODE_NAME: 'n1' });
    await new Promise((closed) => server.close(closed));
    assert.ok(child.stderr);
    const lines = createInterface({ input: child.stderr });
    try {
      for await (const line of lines) {
        if (line.includes('worker started')) break;
        if (!line.includes('Temporal does not answer yet') || server.listening) continue;
        // from now on it is there
        server = createServer((socket) => {
          const upstream = connect(Number(temporal.address.split(':')[1]), '127.0.0.1');
          socket.on('error', () => upstream.destroy()).pipe(upstream);
          upstream.on('error', () => socket.destroy()).pipe(socket);
        }).listen(port, '127.0.0.1');
        await once(server, 'listening');
      }
      const text = await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text();
      assert.match(text, /^dvflow_build_info\{.*role="node"/mu);
      assert.deepEqual(await tell(child), [0, null]);
    } finally {
      child.kill('SIGKILL');
      await temporal.close();
    }
  });

  it('takes connections and says nothing ends with 0', async () => {
    const child = start('node');
    await once(server, 'connection');
    assert.deepEqual(await tell(child), [0, null]);
  });
});
