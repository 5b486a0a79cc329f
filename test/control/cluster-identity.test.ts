import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { KubeConfig } from '@kubernetes/client-node';
import type { Client } from '@temporalio/client';
import { findTools } from '../../local/tools.js';
import { CONTROL_QUEUE } from '../../workflows/task-queues.js';
import { claimTemporalNamespace, CLUSTER_KEY } from '../../workers/control/cluster-identity.js';
import { startTemporal, type TestServer } from '../client/temporal.js';
import { projectPath } from '../docs/documents.js';
import { SOURCE_LOADER } from '../support/source-loader.js';

/** What an API server answers when it is asked for `kube-system`. */
type Answer = readonly [status: number, body: unknown];

describe('whose a Temporal namespace is', function () {
  this.timeout(120_000);
  let temporal: TestServer;
  let kubernetes: Server;
  let answers: Answer[] = [];
  let said: string[] = [];
  before(async () => {
    temporal = await startTemporal();
    kubernetes = createServer((_, response) => {
      const [status, body] = answers.length > 1 ? answers.shift()! : answers[0]!;
      response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
    });
    await new Promise<void>((resolve) => kubernetes.listen(0, '127.0.0.1', resolve));
  });
  beforeEach(() => {
    said = [];
  });
  after(async () => {
    await temporal.close();
    kubernetes.close();
  });

  const cluster = (uid: string): Answer => [
    200,
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'kube-system', uid } },
  ];
  const refusal = (code: number): Answer => [
    code,
    { apiVersion: 'v1', kind: 'Status', status: 'Failure', code },
  ];

  async function claim(
    as: readonly Answer[],
    {
      told = new AbortController().signal,
      client = temporal.client,
      take = false,
    }: { told?: AbortSignal; client?: Pick<Client, 'workflowService'>; take?: boolean } = {},
  ): Promise<boolean> {
    answers = [...as];
    const kubeConfig = new KubeConfig();
    const { port } = kubernetes.address() as AddressInfo;
    kubeConfig.loadFromClusterAndUser(
      { name: 'c', server: `http://127.0.0.1:${port}`, skipTLSVerify: true },
      { name: 'u' },
    );
    const logger = { info: () => undefined, warn: (message: string) => said.push(message) };
    const options = { kubeConfig, client, temporalNamespace: 'default', take, logger };
    return await claimTemporalNamespace(options, told);
  }

  async function owner(): Promise<string | undefined> {
    const found = await temporal.client.workflowService.describeNamespace({ namespace: 'default' });
    return found.namespaceInfo?.data?.[CLUSTER_KEY] ?? undefined;
  }

  it('is the first cluster’s, and no other’s until an operator runs the command that the refusal names', async () => {
    assert.equal(await claim([cluster('uid-a')]), true);
    assert.equal(await claim([cluster('uid-a')]), true);
    assert.equal(await owner(), 'uid-a');
    const refused: unknown = await claim([cluster('uid-b')]).catch((error: unknown) => error);
    assert.ok(refused instanceof Error);
    assert.match(refused.message, /namespace default .*uid-a.*uid-b/);
    assert.equal(await owner(), 'uid-a');
    const [, command] = /: (temporal operator [^:]*)$/.exec(refused.message) ?? [];
    assert.ok(command);
    const [program = '', ...leading] = (
      await findTools({ kubernetes: false, temporal: true }, () => undefined)
    ).temporal;
    const args = command.split(' ').slice(1);
    await promisify(execFile)(program, [...leading, ...args, '--address', temporal.address]);
    assert.equal(await claim([cluster('uid-b')]), true);
    await assert.rejects(claim([cluster('uid-a')]), /belongs to the cluster/);
    assert.deepEqual(said, []);
  });

  it('ends a control worker of another cluster before it polls', async () => {
    answers = [cluster('uid-c')];
    const directory = await mkdtemp(join(tmpdir(), 'dvflow-identity-'));
    const { port } = kubernetes.address() as AddressInfo;
    const kubeconfig = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        { name: 'c', cluster: { server: `http://127.0.0.1:${port}`, 'insecure-skip-tls-verify': true } },
      ],
      users: [{ name: 'u', user: {} }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'x',
    };
    await writeFile(join(directory, 'kubeconfig'), JSON.stringify(kubeconfig));
    const env = {
      PATH: process.env['PATH'],
      XDG_CACHE_HOME: directory,
      TEMPORAL_ADDRESS: temporal.address,
      KUBECONFIG: join(directory, 'kubeconfig'),
      DVFLOW_STATE_DIRECTORY: join(directory, 'state'),
    };
    const args = [...SOURCE_LOADER, projectPath('cli/main.ts'), 'worker', 'control'];
    const worker = spawn(process.execPath, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
    try {
      const [told] = await Promise.all([text(worker.stderr), once(worker, 'exit')]);
      assert.match(told, /belongs to the cluster whose namespace kube-system has the uid uid-b/);
      assert.equal(worker.exitCode, 1);
    } finally {
      worker.kill('SIGKILL');
      await rm(directory, { recursive: true, force: true });
    }
    const queue = { namespace: 'default', taskQueue: { name: CONTROL_QUEUE }, taskQueueType: 1 };
    const { pollers } = await temporal.client.workflowService.describeTaskQueue(queue);
    assert.deepEqual(pollers, []);
  });

  it('is not known, and said once, where the worker may not read the cluster’s identity', async () => {
    assert.equal(await claim([refusal(403)]), true);
    assert.deepEqual(said, ['whether another cluster uses this Temporal namespace is not known']);
  });

  for (const code of [7, 12]) {
    it(`is not known, and said once, where Temporal answers with gRPC code ${code}`, async () => {
      const denied = async (): Promise<never> => {
        throw Object.assign(new Error('no'), { code });
      };
      const client = { workflowService: { describeNamespace: denied } } as unknown as Client;
      assert.equal(await claim([cluster('uid-c')], { client }), true);
      assert.deepEqual(said, ['whether another cluster uses this Temporal namespace is not known']);
    });
  }

  it('is asked of a Kubernetes that comes late, until the worker is told to end', async () => {
    await assert.rejects(claim([refusal(503), cluster('uid-c')]), /belongs to the cluster/);
    assert.deepEqual(said, ['Kubernetes does not answer yet']);
    assert.equal(await claim([refusal(503)], { told: AbortSignal.timeout(300) }), false);
  });

  it('is taken over by a cluster that is told to', async () => {
    assert.equal(await claim([cluster('uid-d')], { take: true }), true);
    assert.equal(await owner(), 'uid-d');
    await assert.rejects(claim([cluster('uid-a')]), /belongs to the cluster/);
  });
});
