/** `dvflow upload` as a process of its own: what it is sent signals by, and what listens to them beside it, is the process's. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startServer, type RunningServer } from '../support/servers/index.js';
import { apart, startDvflow } from './command.js';

describe('dvflow upload that is told to end', function () {
  this.timeout(30_000);
  let home: string;
  let kubernetes: RunningServer;

  before(async () => {
    home = await mkdtemp(join(tmpdir(), 'dvflow-signals-'));
    // a DataVolume that is never ready
    const metadata = { name: 'disk', namespace: 'team-a', uid: 'first', creationTimestamp: '' };
    kubernetes = await startServer((_request, response) => {
      response.setHeader('Content-Type', 'application/json');
      response.end(JSON.stringify({ metadata, status: { phase: 'ImportScheduled' } }));
    });
    const config = {
      clusters: [{ name: 'test', cluster: { server: kubernetes.url, 'insecure-skip-tls-verify': true } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
      users: [{ name: 'test', user: {} }],
      'current-context': 'test',
    };
    await writeFile(join(home, 'kubeconfig'), JSON.stringify(config));
    await writeFile(join(home, 'disk.img'), 'a disk');
  });
  after(async () => {
    await kubernetes.close();
    await rm(home, { recursive: true });
  });

  for (const name of ['SIGINT', 'SIGTERM'] as const)
    it(`by ${name} says how to go on, and ends with 130`, async () => {
      const args = ['upload', join(home, 'disk.img'), '--dv', 'disk', '-n', 'team-a', '--no-create'];
      const { child, said, ended, until } = startDvflow(args, {
        ...apart(home),
        KUBECONFIG: join(home, 'kubeconfig'),
      });
      try {
        await until('stderr', 'DataVolume team-a/disk: ImportScheduled');
        child.kill(name);
        // as npx does, which hands on what the terminal has sent already
        child.kill(name);
        assert.equal(await ended, 130);
        assert.match(said.stderr, /^dvflow: interrupted: the same command goes on where the disk is$/mu);
      } finally {
        child.kill('SIGKILL');
      }
    });
});
