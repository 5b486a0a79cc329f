import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  killProcess,
  nodesRefusal,
  processPid,
  stackDown,
  stackStatus,
  stackUp,
  type StackInfo,
} from '../../local/index.js';
import { runKubectl } from '../../local/kubectl.js';
import { cgroupProcesses } from '../../local/nodes/cgroups.js';
import { podManifest } from '../support/pods.js';
import { footprint, machineSettings, unseenLoopDevices } from './footprint.js';

const MAIN = new URL('../../lib/cli/bundled/main.js', import.meta.url).pathname;

describe('real nodes of the local stack', function () {
  this.timeout(240_000);
  let directory: string;
  let info: StackInfo;
  let settings: Readonly<Record<string, string>>;
  let unseen: readonly string[];

  const up = async (): Promise<StackInfo> =>
    await stackUp({ directory, ports: 'free', workers: false, nodes: 2 }, () => undefined);
  const kubectl = async (args: readonly string[], input?: string): Promise<string> =>
    await runKubectl(info.kubectl, args, input === undefined ? {} : { input });

  const assertNothingLeft = (): void => {
    assert.deepEqual(footprint(directory), []);
    assert.deepEqual(unseenLoopDevices(), unseen);
  };

  before(async function () {
    const refusal = nodesRefusal();
    if (refusal !== undefined) {
      console.error(`    skipped: ${refusal}`);
      this.skip();
    }
    directory = mkdtempSync(join(tmpdir(), 'dvflow-test-'));
    settings = machineSettings();
    unseen = unseenLoopDevices();
    info = await up();
  });
  after(async () => {
    if (directory === undefined) return;
    await stackDown({ directory, purge: true }, () => undefined);
    rmSync(directory, { recursive: true, force: true });
  });

  it('are Ready under their names, at addresses of their own, beside no other node', async () => {
    const status = await stackStatus({ directory });
    assert.equal(status.state, 'running');
    const own = status.processes
      .filter(({ name }) => /-node\d/.test(name))
      .map(({ name, state }) => `${name} ${state}`);
    assert.deepEqual(own.sort(), [
      'containerd-node01 ready',
      'containerd-node02 ready',
      'kubelet-node01 ready',
      'kubelet-node02 ready',
    ]);
    const env = { ...process.env, DVFLOW_LOCAL_DIR: directory };
    const shown = spawnSync(process.execPath, [MAIN, 'local', 'status'], { env, encoding: 'utf8' });
    assert.equal(shown.status, 0, shown.stderr);
    for (const { name, address, pool } of info.nodes) {
      assert.ok(shown.stdout.includes(`${name}  ${address}  volumes in ${pool}\n`), shown.stdout);
    }
    const path = '{range .items[*]}{.metadata.name} {.status.addresses[0].address}{"\\n"}{end}';
    const lines = (await kubectl(['get', 'nodes', '-o', `jsonpath=${path}`])).trim().split('\n');
    assert.deepEqual(
      lines,
      info.nodes.map(({ name, address }) => `${name} ${address}`),
    );
  });

  it('run a pod each; logs and commands in it work, and the image is there without a registry', async () => {
    await Promise.all(
      info.nodes.map(async ({ name: node }) => {
        const script = 'echo started on $(hostname); while true; do sleep 1; done';
        const pod = podManifest({ namespace: 'default', name: node, script, node });
        await kubectl(
          ['create', '-f', '-'],
          JSON.stringify({ ...pod, spec: { ...pod.spec, restartPolicy: 'Always' } }),
        );
        await kubectl(['wait', '--for=condition=Ready', `pod/${node}`, '--timeout=60s']);
        assert.equal(await kubectl(['logs', node]), `started on ${node}\n`);
        assert.equal((await kubectl(['exec', node, '--', 'id', '-u'])).trim(), '107');
      }),
    );
  });

  it('leave the settings of the machine as they were', () => {
    assert.deepEqual(machineSettings(), settings);
  });

  /** A pod on node02 that holds a block volume on a device of the machine, for which its kubelet attaches a loop device. */
  async function useBlockDevice(path: string): Promise<void> {
    const node = info.nodes[1]!;
    const labels = { key: 'kubernetes.io/hostname', operator: 'In', values: [node.name] };
    const modes = { accessModes: ['ReadWriteOnce'], volumeMode: 'Block', storageClassName: 'by-hand' };
    const volume = {
      apiVersion: 'v1',
      kind: 'PersistentVolume',
      metadata: { name: 'block' },
      spec: {
        ...modes,
        capacity: { storage: '1Mi' },
        local: { path },
        nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [labels] }] } },
      },
    };
    const claim = {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name: 'block', namespace: 'default' },
      spec: { ...modes, resources: { requests: { storage: '1Mi' } } },
    };
    const script = 'head -c 512 /dev/disk | wc -c; while true; do sleep 1; done';
    const claims = { '/dev/disk': { claim: 'block', block: true } };
    const pod = podManifest({ namespace: 'default', name: 'block', script, claims });
    for (const object of [volume, claim, pod]) await kubectl(['create', '-f', '-'], JSON.stringify(object));
    await kubectl(['wait', '--for=condition=Ready', 'pod/block', '--timeout=60s']);
    assert.equal(await kubectl(['logs', 'block']), '512\n');
  }

  it('end with the stack: no process, mount, bridge, cgroup or loop device is left', async () => {
    assert.ok(info.nodes.every(({ cgroup }) => cgroupProcesses(cgroup).length > 3));
    const file = join(tmpdir(), `dvflow-test-block-${process.pid}.img`);
    const device = attachLoop(file);
    try {
      attachLoop(join(info.nodes[0]!.pool, 'loop.img'));
      await useBlockDevice(device);
      const loops = footprint(directory).filter((line) => line.startsWith('loop device'));
      assert.ok(
        loops.some((line) => line.includes('/nodes/node02/kubelet/')),
        loops.join(),
      );
      await stackDown({ directory }, () => undefined);
      assertNothingLeft();
    } finally {
      spawnSync('losetup', ['--detach', device]);
      rmSync(file, { force: true });
    }
    assert.deepEqual(machineSettings(), settings);
  });

  it('come back with the stack, and with them their pods', async () => {
    info = await up();
    for (const { name } of info.nodes) {
      const restarted = '--for=jsonpath={.status.containerStatuses[0].restartCount}=1';
      await kubectl(['wait', restarted, `pod/${name}`, '--timeout=90s']);
      await kubectl(['wait', '--for=condition=Ready', `pod/${name}`, '--timeout=60s']);
      assert.equal((await kubectl(['exec', name, '--', 'hostname'])).trim(), name);
    }
  });

  it('leave nothing when everything of one was killed, its containerd and a shim first', async () => {
    const [node] = info.nodes;
    const shim = cgroupProcesses(node!.cgroup).find((pid) => commandLine(pid).includes('containerd-shim'));
    assert.ok(shim);
    killProcess(info, 'containerd-node01');
    process.kill(shim, 'SIGKILL');
    killProcess(info, 'kubelet-node02');
    while (processPid(info, 'containerd-node01') !== undefined) await sleep(20);
    assert.equal((await stackStatus({ directory })).state, 'degraded');
    await stackDown({ directory }, () => undefined);
    assertNothingLeft();
  });

  /** Runs a command of the program and kills it after a time. */
  async function interrupted(milliseconds: number, ...args: readonly string[]): Promise<void> {
    const env = { ...process.env, DVFLOW_LOCAL_DIR: directory };
    const child = spawn(process.execPath, [MAIN, 'local', ...args], { env, stdio: 'ignore' });
    const ended = new Promise((settle) => child.once('exit', settle));
    await sleep(milliseconds);
    child.kill('SIGKILL');
    await ended;
  }

  for (const seconds of [1, 3, 8]) {
    it(`leave nothing when the start was killed after ${seconds} s, and a stop on its way too`, async () => {
      await interrupted(seconds * 1000, 'up', '--ports=free', '--no-workers', '--nodes=2');
      await interrupted(700, 'down');
      await stackDown({ directory }, () => undefined);
      assertNothingLeft();
    });
  }
});

function attachLoop(path: string): string {
  writeFileSync(path, '');
  truncateSync(path, 1 << 20);
  const { status, stdout, stderr } = spawnSync('losetup', ['--find', '--show', path], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  return stdout.trim();
}

function commandLine(pid: number): string {
  return spawnSync('cat', [`/proc/${pid}/cmdline`], { encoding: 'utf8' }).stdout;
}
