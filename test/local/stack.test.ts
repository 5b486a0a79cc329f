import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createServer } from 'node:net';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readTlsFiles, TLS_FILES } from '../../activities/data-port/tls.js';
import {
  killProcess,
  processPid,
  stackDown,
  stackStatus,
  stackUp,
  type StackInfo,
} from '../../local/index.js';
import { runKubectl } from '../../local/kubectl.js';
import { tryLock } from '../../local/lock.js';
import { layout } from '../../local/paths.js';
import { DEFAULT_PORTS } from '../../local/ports.js';
import { readState, writeState } from '../../local/state.js';
import { LEAF_MS } from '../../workers/pki/certificates.js';
import { ensureCertificateDirectory, peerDirectory, PEERS } from '../../workers/pki/directory.js';
import { isFresh } from '../../workers/pki/judge.js';

/** Command lines of all live processes that mention the text. */
function processesWith(text: string): readonly string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      } catch {
        return '';
      }
    })
    .filter((line) => line.includes(text));
}

describe('the local stack', function () {
  this.timeout(240_000);
  let directory: string;
  const log: string[] = [];
  let info: StackInfo;

  const up = async (): Promise<StackInfo> => {
    log.length = 0;
    return await stackUp({ directory, ports: 'free', workers: false }, (line) => log.push(line));
  };
  const kubectl = async (...args: string[]): Promise<string> => await runKubectl(info.kubectl, args);

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'dvflow-test-'));
    info = await up();
  });
  after(async () => {
    await stackDown({ directory, purge: true }, () => undefined);
    rmSync(directory, { recursive: true, force: true });
  });

  it('runs every process, and says so', async () => {
    const status = await stackStatus({ directory });
    assert.equal(status.state, 'running');
    assert.deepEqual(
      status.processes.map(({ name, state }) => [name, state]),
      ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'temporal', 'agent'].map(
        (name) => [name, 'ready'],
      ),
    );
    assert.deepEqual(status.info, info);
    for (const { name, pid } of status.processes) assert.equal(pid, processPid(info, name));
  });

  it('has a Ready node without taints, whose Lease is renewed', async () => {
    const read = (kind: string, path: string): Promise<string> =>
      kubectl('get', kind, info.node, '-n', 'kube-node-lease', '-o', `jsonpath=${path}`);
    assert.equal(await read('node', String.raw`{.metadata.labels.kubernetes\.io/hostname}`), info.node);
    assert.equal(await read('node', '{.spec.taints}'), '');
    assert.equal(await read('node', '{.status.conditions[?(@.type=="Ready")].status}'), 'True');
    assert.equal(await read('lease', '{.spec.holderIdentity}'), info.node);
    const renewed = await read('lease', '{.spec.renewTime}');
    assert.ok(Date.now() - Date.parse(renewed) < 40_000, renewed);
  });

  it('serves the API of deploy/ and points the provisioner at its own pool', async () => {
    const path = await kubectl(
      'get',
      'hostpathprovisioner',
      '-o',
      'jsonpath={.items[*].spec.pathConfig.path}',
    );
    assert.equal(path, info.pool);
    const provisioner = await kubectl('get', 'sc', 'hostpath-provisioner', '-o', 'jsonpath={.provisioner}');
    assert.equal(provisioner, 'kubevirt.io/hostpath-provisioner');
    const can = (verb: string, user: string): Promise<string> =>
      kubectl('auth', 'can-i', verb, 'datavolumes.cdi.kubevirt.io', '-n', 'default', `--as=${user}`);
    assert.equal((await can('create', 'dvflow:temporal:default')).trim(), 'yes');
    await assert.rejects(can('create', 'dvflow:temporal:other'));
    await assert.rejects(can('create', 'system:serviceaccount:dvflow-nodes:dvflow-node'));
  });

  it('lets nobody read etcd without its certificate', async () => {
    await assert.rejects(fetch(`https://127.0.0.1:${info.ports.etcd}/version`));
    await assert.rejects(fetch(`http://127.0.0.1:${info.ports.etcd}/version`));
  });

  it('keeps keys and tokens from other users', async () => {
    const args = [directory, '-type', 'f', '-perm', '/077', '-not', '-path', `${directory}/etcd/*`];
    const { stdout } = spawnSync('find', args, { encoding: 'utf8' });
    const readable = stdout.split('\n').filter((path) => /key|token|kubeconfig|state\.json/.test(path));
    assert.deepEqual(readable, []);
  });

  it('is left as it is by a second start', async () => {
    const again = await up();
    assert.deepEqual(again, info);
    assert.deepEqual(log, [`the local stack in ${directory} is already running`]);
  });

  it('gets new certificates of data ports by a second start when those that it has are near their end', async () => {
    const { dataPortPki } = layout(directory);
    const files = () => PEERS.map((peer) => readTlsFiles(peerDirectory(dataPortPki, peer)));
    const authority = readFileSync(join(dataPortPki, 'authority', TLS_FILES.cert), 'utf8');
    for (const peer of PEERS) rmSync(peerDirectory(dataPortPki, peer), { recursive: true });
    await ensureCertificateDirectory(dataPortPki, Date.now() - 0.9 * LEAF_MS);
    assert.ok(files().every((leaf) => !isFresh(leaf, Date.now())));
    assert.deepEqual(await up(), info);
    assert.ok(files().every((leaf) => isFresh(leaf, Date.now())));
    assert.equal(readFileSync(join(dataPortPki, 'authority', TLS_FILES.cert), 'utf8'), authority);
  });

  it('refuses a start while another start or stop is under way', async () => {
    const release = await tryLock(directory);
    assert.ok(release);
    try {
      await assert.rejects(up(), /another start or stop of the local stack in .* is under way/);
      await assert.rejects(
        stackDown({ directory }, () => undefined),
        /another start or stop/,
      );
    } finally {
      await release();
    }
    assert.equal((await stackStatus({ directory })).state, 'running');
  });

  it('uses the Temporal server of TEMPORAL_ADDRESS and starts none', async () => {
    const other = mkdtempSync(join(tmpdir(), 'dvflow-test-'));
    process.env['TEMPORAL_ADDRESS'] = info.temporalAddress;
    process.env['KUBECONFIG'] = info.kubeconfig;
    const options = { directory: other, ports: 'free', workers: false } as const;
    try {
      await assert.rejects(
        stackUp(options, () => undefined),
        new RegExp(`KUBECONFIG=${info.kubeconfig} is not the local stack's own`),
      );
      assert.equal((await stackStatus({ directory: other })).state, 'stopped');
      process.env['DVFLOW_USE_CLUSTER'] = '1';
      const second = await stackUp(options, () => undefined);
      assert.equal(second.temporalAddress, info.temporalAddress);
      assert.deepEqual(Object.keys(second.pids), ['agent']);
      assert.match(await runKubectl(second.kubectl, ['get', 'namespace', 'dvflow', '-o', 'name']), /dvflow/);
    } finally {
      for (const name of ['TEMPORAL_ADDRESS', 'KUBECONFIG', 'DVFLOW_USE_CLUSTER']) delete process.env[name];
      await stackDown({ directory: other, purge: true }, () => undefined);
      rmSync(other, { recursive: true, force: true });
    }
  });

  it('is started anew on its data when something of it has died, and leaves no orphan', async () => {
    await kubectl('create', 'namespace', 'survivor');
    const before = processesWith(directory).length;
    killProcess(info, 'etcd');
    killProcess(info, 'temporal');
    while (processPid(info, 'etcd') !== undefined || processPid(info, 'temporal') !== undefined);
    assert.equal((await stackStatus({ directory })).state, 'degraded');
    info = await up();
    assert.match(log[0]!, /runs only in part \(ended: (etcd, temporal|temporal, etcd)\): starting it anew/);
    assert.equal(processesWith(directory).length, before);
    assert.equal((await kubectl('get', 'namespace', 'survivor', '-o', 'name')).trim(), 'namespace/survivor');
    await kubectl('delete', 'namespace', 'survivor', '--wait=false');
  });

  it('ends exactly what it started, and leaves the data', async () => {
    const state = readState(directory)!;
    // What a recycled pid looks like: alive, but started at another time.
    const stranger = {
      pid: process.pid,
      startTime: '1',
      boot: state.processes.agent!.boot,
      log: '/dev/null',
    };
    writeState(directory, { ...state, processes: { ...state.processes, 'worker-node': stranger } });
    await stackDown({ directory }, () => undefined);
    assert.deepEqual(processesWith(directory), []);
    assert.equal((await stackStatus({ directory })).state, 'stopped');
    assert.ok(existsSync(join(directory, 'etcd', 'data')));
  });

  it('removes only its own data with purge', async () => {
    writeFileSync(join(directory, 'letter'), 'not of the stack');
    await stackDown({ directory, purge: true }, () => undefined);
    assert.deepEqual(readdirSync(directory), ['letter']);
  });
});

describe('a port that is taken', () => {
  it('is named with the process that holds it, and nothing is started', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'dvflow-test-'));
    const server = createServer();
    const listening = new Promise<boolean>((settle) => {
      server.once('error', () => settle(false)); // a stack of the user's own: as good a holder
      server.listen(DEFAULT_PORTS.temporalUi, '127.0.0.1', () => settle(true));
    });
    const holder = (await listening) ? `process ${process.pid} \\(` : '';
    try {
      await assert.rejects(
        stackUp({ directory, workers: false }, () => undefined),
        new RegExp(`port ${DEFAULT_PORTS.temporalUi} \\(temporalUi\\) is in use by ${holder}.*--ports free`),
      );
      assert.deepEqual(processesWith(directory), []);
      assert.deepEqual(readdirSync(directory), []);
    } finally {
      server.close();
      rmSync(directory, { recursive: true });
    }
  });
});
