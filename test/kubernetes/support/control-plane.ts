/** A real etcd, kube-apiserver and kube-controller-manager on random loopback ports, for the tests of this folder. */
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { KubeConfig } from '@kubernetes/client-node';
import { setTimeout as sleep } from 'node:timers/promises';
import { createKubernetes, loadKubeConfig } from '../../../activities/kubernetes/client.js';
import type { Kubernetes } from '../../../activities/kubernetes/client.js';

const run = promisify(execFile);
const BINARY = process.env.DVFLOW_CONTROL_PLANE ?? '/tmp/build/bin/dvflow-control-plane';
const CONTROLLERS = [
  'persistentvolume-binder-controller',
  'persistentvolumeclaim-protection-controller',
  'persistentvolume-protection-controller',
  'garbage-collector-controller',
  'resourcequota-controller',
];

/** A running control plane. */
export interface ControlPlane {
  /** As cluster administrator. */
  readonly admin: Kubernetes;
  /** Kubeconfig of the control role's own ServiceAccount, with its token in a file. */
  readonly control: KubeConfig;
  readonly kubectl: (...args: string[]) => Promise<string>;
  readonly directory: string;
}

let shared: Promise<ControlPlane & { stop(): Promise<void> }> | undefined;
let users = 0;

/** Starts one control plane for all suites that ask, ends it after the last of them. */
export function useControlPlane(): () => ControlPlane {
  let plane: ControlPlane | undefined;
  users++;
  before(async function () {
    this.timeout(90_000);
    shared ??= start();
    plane = await shared;
  });
  after(async function () {
    this.timeout(30_000);
    if (--users === 0) await (await shared)?.stop();
  });
  return () => plane!;
}

async function start(): Promise<ControlPlane & { stop(): Promise<void> }> {
  const directory = await mkdtemp(join(tmpdir(), 'kube-test-'));
  const [etcd, peer, secure, manager] = (await Promise.all([
    freePort(),
    freePort(),
    freePort(),
    freePort(),
  ])) as [number, number, number, number];
  await makeCertificates(directory);
  const children: ChildProcess[] = [];
  const launch = async (name: string, args: string[]) => {
    const log = await open(join(directory, `${name}.log`), 'w');
    children.push(spawn(BINARY, [name, ...args], { stdio: ['ignore', log.fd, log.fd] }));
    await log.close();
  };
  const file = (name: string) => join(directory, name);
  await launch('etcd', [
    `--data-dir=${file('etcd')}`,
    `--listen-client-urls=http://127.0.0.1:${etcd}`,
    `--advertise-client-urls=http://127.0.0.1:${etcd}`,
    `--listen-peer-urls=http://127.0.0.1:${peer}`,
    '--unsafe-no-fsync',
    '--log-level=error',
  ]);
  await launch('kube-apiserver', [
    `--etcd-servers=http://127.0.0.1:${etcd}`,
    '--bind-address=127.0.0.1',
    `--secure-port=${secure}`,
    `--tls-cert-file=${file('server.crt')}`,
    `--tls-private-key-file=${file('server.key')}`,
    `--client-ca-file=${file('ca.crt')}`,
    `--service-account-key-file=${file('server.key')}`,
    `--service-account-signing-key-file=${file('server.key')}`,
    '--service-account-issuer=https://kubernetes.default.svc',
    '--authorization-mode=Node,RBAC',
    '--service-cluster-ip-range=10.0.0.0/24',
    '--disable-admission-plugins=ServiceAccount',
  ]);
  const server = `https://127.0.0.1:${secure}`;
  await writeFile(
    file('admin.kubeconfig'),
    kubeconfig(server, directory, {
      'client-certificate': file('admin.crt'),
      'client-key': file('admin.key'),
    }),
  );
  const kubectl = async (...args: string[]) =>
    (await run(BINARY, ['kubectl', `--kubeconfig=${file('admin.kubeconfig')}`, ...args])).stdout;
  await until(async () => (await kubectl('get', '--raw', '/readyz')) === 'ok', file('kube-apiserver.log'));
  await launch('kube-controller-manager', [
    `--kubeconfig=${file('admin.kubeconfig')}`,
    `--controllers=${CONTROLLERS.join(',')}`,
    `--secure-port=${manager}`,
    '--bind-address=127.0.0.1',
    '--leader-elect=false',
  ]);
  const stop = async () => {
    for (const child of children.reverse()) {
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await gone;
    }
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await kubectl('apply', '-k', 'deploy/api');
    await kubectl('apply', '-k', 'deploy/temporal');
    await kubectl('wait', '--for=condition=established', 'crd', '--all', '--timeout=30s');
    await kubectl('apply', '-k', 'deploy/defaults');
    const token = await kubectl('create', 'token', 'dvflow-control', '-n', 'dvflow');
    await writeFile(file('token'), token.trim());
    // relative, as people write it
    await writeFile(file('control.kubeconfig'), kubeconfig(server, directory, { tokenFile: 'token' }));
  } catch (error) {
    await stop();
    throw error;
  }
  const admin = createKubernetes(loadKubeConfig(file('admin.kubeconfig')));
  return { admin, control: loadKubeConfig(file('control.kubeconfig')), kubectl, directory, stop };
}

async function makeCertificates(directory: string): Promise<void> {
  const openssl = (...args: string[]) => run('openssl', args, { cwd: directory });
  await openssl(
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-keyout',
    'ca.key',
    '-out',
    'ca.crt',
    '-subj',
    '/CN=ca',
    '-days',
    '2',
  );
  for (const [name, subject] of [
    ['server', '/CN=kube-apiserver'],
    ['admin', '/O=system:masters/CN=admin'],
  ] as const) {
    await openssl(
      'req',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.csr`,
      '-subj',
      subject,
    );
    await writeFile(join(directory, 'ext'), 'subjectAltName=IP:127.0.0.1,DNS:localhost\n');
    await openssl(
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      '-CA',
      'ca.crt',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-out',
      `${name}.crt`,
      '-days',
      '2',
      '-extfile',
      'ext',
    );
  }
}

function kubeconfig(server: string, directory: string, user: Record<string, string>): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'test',
    clusters: [{ name: 'test', cluster: { server, 'certificate-authority': join(directory, 'ca.crt') } }],
    users: [{ name: 'test', user }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
  });
}

async function until(isReady: () => Promise<boolean>, log: string): Promise<void> {
  for (let waited = 0; waited < 60_000; waited += 250) {
    if (await isReady().catch(() => false)) return;
    await sleep(250);
  }
  throw new Error(`not ready within 60 s:\n${(await readFile(log, 'utf8')).slice(-2000)}`);
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}
