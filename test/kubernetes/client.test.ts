import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { RequestOptions } from 'node:https';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createKubernetes, listAll, loadKubeConfig } from '../../activities/kubernetes/client.js';
import { rejectsForNow } from './support/fixtures.js';

describe('the Kubernetes client', () => {
  const directory = mkdtempSync(join(tmpdir(), 'dvflow-client-'));
  const file = join(directory, 'config');
  after(() => rmSync(directory, { recursive: true }));
  before(async () => {
    // a port that was free a moment ago: nobody listens on it
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    server.close();
    writeFileSync(join(directory, 'the-token'), 'first');
    writeFileSync(
      file,
      `apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: "https://127.0.0.1:${port}"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {token: stale, tokenFile: the-token}}, {name: v, user: {token: kept}}]
`,
    );
  });

  it('takes the token of a tokenFile, which goes before a token', async () => {
    const kubeConfig = loadKubeConfig(file);
    const options: RequestOptions = {};
    await kubeConfig.applyToHTTPSOptions(options);
    assert.deepEqual(options.headers, { Authorization: 'Bearer first' });
    assert.equal(kubeConfig.users[1]?.token, 'kept');
  });

  it('says that nobody answers', async () => {
    const { core } = createKubernetes(loadKubeConfig(file));
    await rejectsForNow(
      listAll('listing volumes', (page) => core.listPersistentVolume(page)),
      'KubernetesUnavailable',
      /^listing volumes: connect ECONNREFUSED 127.0.0.1:\d+$/,
    );
  });

  it('reads every page of a list', async () => {
    const pages = [
      { items: [1, 2], metadata: { _continue: 'a' } },
      { items: [3], metadata: { _continue: 'b' } },
      { items: [4], metadata: {} },
    ];
    const asked: (string | undefined)[] = [];
    const items = await listAll('x', async ({ _continue }) => {
      asked.push(_continue);
      return pages[asked.length - 1]!;
    });
    assert.deepEqual(items, [1, 2, 3, 4]);
    assert.deepEqual(asked, [undefined, 'a', 'b']);
  });
});
