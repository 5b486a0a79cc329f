import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { killProcess, processPid, restartProcess, stackStatus } from '../../local/index.js';
import { kubeconfigPath, tokenPath } from '../../local/kubeconfigs.js';
import { runKubectl } from '../../local/kubectl.js';
import { endProcess } from '../../local/processes.js';
import { readState } from '../../local/state.js';
import { useStack } from '../support/stack.js';

describe('the workers of the local stack', function () {
  this.timeout(120_000);
  const stack = useStack();

  it('are who deploy/ says, by tokens', async () => {
    const accounts = {
      control: 'system:serviceaccount:dvflow:dvflow-control',
      node: 'system:serviceaccount:dvflow-nodes:dvflow-node',
    } as const;
    for (const worker of ['control', 'node'] as const) {
      const kubeconfig = kubeconfigPath(stack.info.directory, worker);
      assert.doesNotMatch(readFileSync(kubeconfig, 'utf8'), /client-certificate|client-key/);
      const args = [
        `--kubeconfig=${kubeconfig}`,
        'auth',
        'whoami',
        '-o',
        'jsonpath={.status.userInfo.username}',
      ];
      assert.equal(await runKubectl(stack.info.kubectl, args), accounts[worker]);
      const environment = readFileSync(`/proc/${processPid(stack.info, `worker-${worker}`)}/environ`, 'utf8');
      assert.ok(environment.split('\0').includes(`KUBECONFIG=${kubeconfig}`));
      assert.ok(!environment.includes(join('kubeconfigs', 'admin.yaml')));
    }
  });

  it('get new tokens from the agent', async () => {
    const path = tokenPath(stack.info.directory, 'control');
    const before = readFileSync(path, 'utf8');
    await restartProcess(stack.info, 'agent');
    while (readFileSync(path, 'utf8') === before) await new Promise((wake) => setTimeout(wake, 50));
    const claims = JSON.parse(
      Buffer.from(readFileSync(path, 'utf8').split('.')[1]!, 'base64url').toString(),
    ) as { sub: string; exp: number };
    assert.equal(claims.sub, 'system:serviceaccount:dvflow:dvflow-control');
    assert.ok(claims.exp * 1000 > Date.now());
  });

  it('start again after kill -9, and a second control worker beside the first', async () => {
    const first = processPid(stack.info, 'worker-control');
    assert.equal(killProcess(stack.info, 'worker-control', 'SIGKILL'), true);
    while (processPid(stack.info, 'worker-control') !== undefined);
    assert.equal((await stackStatus({ directory: stack.info.directory })).state, 'degraded');
    await restartProcess(stack.info, 'worker-control');
    assert.notEqual(processPid(stack.info, 'worker-control'), first);
    await restartProcess(stack.info, 'worker-control-2');
    const { state, processes } = await stackStatus({ directory: stack.info.directory });
    assert.equal(state, 'running');
    assert.ok(processes.some(({ name }) => name === 'worker-control-2'));
    await endProcess(readState(stack.info.directory)!.processes['worker-control-2']!, 20_000);
  });
});
