import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startServer } from '../support/servers/index.js';
import { apart, startDvflow } from './command.js';

describe('dvflow retry', function () {
  this.timeout(30_000);

  it('asks for another run that waits for a consumer, where it is told to', async () => {
    const home = mkdtempSync(join(tmpdir(), 'dvflow-retry-'));
    const patches: unknown[] = [];
    const api = await startServer(async (request, response) => {
      if (request.method === 'PATCH') patches.push(JSON.parse(await text(request)));
      response.setHeader('content-type', 'application/json').end('{"status": {"phase": "Failed"}}');
    });
    const kubeconfig = {
      clusters: [{ name: 'it', cluster: { server: api.url, 'insecure-skip-tls-verify': true } }],
      contexts: [{ name: 'it', context: { cluster: 'it', user: 'it' } }],
      users: [{ name: 'it', user: {} }],
      'current-context': 'it',
    };
    const KUBECONFIG = join(home, 'config.yaml');
    writeFileSync(KUBECONFIG, JSON.stringify(kubeconfig));
    try {
      const env = { ...apart(home), KUBECONFIG };
      const { said, ended } = startDvflow(['retry', 'vm1', '--wait-for-consumer'], env);
      assert.equal(await ended, 0, said.stderr);
      const [, value] = /retry: (.*)\)/.exec(said.stdout) ?? [];
      const annotations = {
        'dvflow.io/retry': value,
        'cdi.kubevirt.io/storage.bind.immediate.requested': null,
      };
      assert.deepEqual(patches, [{ metadata: { annotations } }]);
    } finally {
      await api.close();
      rmSync(home, { recursive: true });
    }
  });
});
