import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadKubernetes, withTemporal } from '../../cli/connections.js';
import type { StackInfo } from '../../local/types.js';
import { startTemporal, type TestServer } from '../client/temporal.js';

describe('the way to Temporal', function () {
  this.timeout(60_000);
  let home: string;
  let server: TestServer;

  before(async () => {
    home = mkdtempSync(join(tmpdir(), 'dvflow-connections-'));
    server = await startTemporal();
    process.env.TEMPORAL_CONFIG_FILE = join(home, 'temporal.toml');
    const profile = ['[profile.default]', 'address = "127.0.0.1:1"', 'namespace = "dev"', 'api_key = "key"'];
    writeFileSync(process.env.TEMPORAL_CONFIG_FILE, profile.join('\n'));
  });
  after(async () => {
    delete process.env.TEMPORAL_CONFIG_FILE;
    rmSync(home, { recursive: true });
    await server?.close();
  });

  it('that leads to the local stack takes nothing from a profile for another server', async () => {
    const stack = { temporalAddress: server.address, uiUrl: 'http://127.0.0.1:1' } as StackInfo;
    const { count } = await withTemporal((client) => client.workflow.count(), stack);
    assert.equal(count, 0);
  });

  it('is that of the profile where the stack has no server of its own', async () => {
    const stack = { temporalAddress: server.address, uiUrl: '' } as StackInfo;
    // the server has no TLS, which an API key asks for
    await assert.rejects(
      withTemporal((client) => client.workflow.count(), stack),
      /does not answer at/,
    );
  });
});

describe('the way to Kubernetes', () => {
  let home: string;
  let before: string | undefined;

  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), 'dvflow-connections-'));
    before = process.env.KUBECONFIG;
  });
  afterEach(() => {
    if (before === undefined) delete process.env.KUBECONFIG;
    else process.env.KUBECONFIG = before;
    rmSync(home, { recursive: true });
  });

  /** Writes the file of one cluster, which it chooses unless told otherwise. */
  function write(name: string, { chosen = true, at = name } = {}): string {
    const file = join(home, at);
    const config = {
      clusters: [{ name, cluster: { server: `https://${at}.example` } }],
      contexts: [{ name, context: { cluster: name, user: name } }],
      users: [{ name, user: {} }],
      ...(chosen ? { 'current-context': name } : {}),
    };
    writeFileSync(file, JSON.stringify(config));
    return file;
  }
  async function serverOf(...files: readonly string[]): Promise<string | undefined> {
    process.env.KUBECONFIG = files.join(':');
    return (await loadKubernetes()).getCurrentCluster()?.server;
  }

  it('passes over what is missing of a list of files', async () => {
    const none = join(home, 'none');
    assert.equal(await serverOf(write('one'), none), 'https://one.example');
    assert.equal(await serverOf(none, '', write('two')), 'https://two.example');
    await assert.rejects(serverOf(none, none), { exitCode: 2, message: /^kubeconfig: ENOENT.*none/ });
  });

  it('passes over what is empty of a list of files', async () => {
    const blank = join(home, 'blank');
    writeFileSync(blank, '\n');
    assert.equal(await serverOf(blank, write('one')), 'https://one.example');
    assert.equal(await serverOf(write('one'), '/dev/null'), 'https://one.example');
    await assert.rejects(serverOf('/dev/null'), { exitCode: 7, message: /^no cluster: / });
  });

  it('is what the first file of a list says of a name that is in several', async () => {
    const [one, two] = [write('kind', { at: 'one' }), write('kind', { at: 'two' })];
    assert.equal(await serverOf(one, two), 'https://one.example');
    assert.equal(await serverOf(two, one, write('three')), 'https://two.example');
  });

  it('is that of the first file of a list that chooses one, as for kubectl', async () => {
    const [one, two] = [write('one'), write('two')];
    assert.equal(await serverOf(one, two), 'https://one.example');
    assert.equal(await serverOf(write('no', { chosen: false }), two), 'https://two.example');
  });
});
