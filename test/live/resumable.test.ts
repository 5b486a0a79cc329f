import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, statSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { killProcess, processPid, restartProcess, startProcess } from '../../local/index.js';
import { gatewayAuthority } from '../../local/gateway.js';
import { projectRoot } from '../../local/paths.js';
import { useStack } from '../support/stack.js';
import { makeImages, type Images } from './images.js';
import { assertSameDisk, createWorld, eventually, type World } from './world.js';

const MIB = 1024 * 1024;

/** What `dvflow upload -o json` tells. */
interface Report {
  readonly bytes: number;
  readonly bytesSent: number;
  readonly resumed: boolean;
  readonly retries: number;
}

describe('dvflow upload against the real thing', function () {
  this.timeout(240_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let namespace: string;
  let directory: string;

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 512, dataMiB: 384 });
    namespace = await world.createNamespace('resumable');
    directory = await mkdtemp(join(tmpdir(), 'dvflow-resumable-'));
  });
  after(async () => {
    await images.remove();
    await rm(directory, { recursive: true });
  });

  /** Starts the command; `done` is its report. */
  function start(file: string, name: string, ...more: readonly string[]) {
    const args = ['upload', file, '--dv', name, '-n', namespace, '--size=520Mi', '-o', 'json', ...more];
    const child = spawn(process.execPath, [join(projectRoot(), 'lib', 'cli', 'main.js'), ...args], {
      env: {
        ...process.env,
        KUBECONFIG: stack.info.kubeconfig,
        TEMPORAL_ADDRESS: stack.info.temporalAddress,
        XDG_STATE_HOME: directory,
        NODE_EXTRA_CA_CERTS: join(stack.info.directory, 'pki', 'data-port', 'dvflow-gateway', 'ca.crt'),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    let errors = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
    const done = once(child, 'close').then(([code]) => {
      assert.equal(code, 0, errors);
      return JSON.parse(output) as Report;
    });
    return { child, done };
  }

  /** Waits until so much of the disk is there, by the DataVolume's own word. */
  async function awaitProgress(name: string, percent: number): Promise<void> {
    await eventually(`${percent} % of ${name}`, 90_000, async () =>
      Number.parseFloat((await world.read(namespace, name))?.status?.progress ?? '') >= percent
        ? true
        : undefined,
    );
  }

  it('survives a kill -9 of the node worker and a restart of the gateway, and sends hardly anything twice', async () => {
    const { done } = start(images.raw, 'killed', '--checksum', 'sha256');
    await awaitProgress('killed', 15);
    killProcess(stack.info, 'worker-node');
    await startProcess(stack.info, 'worker-node');
    await awaitProgress('killed', 50);
    await restartProcess(stack.info, 'worker-gateway');
    const { bytes, bytesSent, retries } = await done;
    await world.awaitPhase(namespace, 'killed', 'Succeeded', 30_000);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'killed'));
    assert.ok(retries >= 1, `${retries} retries`);
    // what was on its way when a process died, of the whole file
    console.log(
      `      sent ${((100 * bytesSent) / bytes).toFixed(1)} % of ${bytes / MIB} MiB, ${retries} retries`,
    );
  });

  it('goes on where the disk is when the command itself is killed and typed again', async () => {
    const file = await images.as('qcow2');
    const first = start(file, 'again');
    first.done.catch(() => undefined);
    await awaitProgress('again', 20);
    first.child.kill('SIGKILL');
    const { resumed, bytes, bytesSent } = await start(file, 'again').done;
    assert.equal(resumed, true);
    assert.ok(bytesSent < bytes, `${bytesSent} of ${bytes}`);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'again'));
  });

  it('says what is wrong with a file, and the DataVolume stays open', async () => {
    const file = await images.as('qcow2');
    const wrong = start(file, 'wrong', '--checksum', `sha256:${'0'.repeat(64)}`);
    await assert.rejects(wrong.done, /checksum/i);
    assert.equal((await world.read(namespace, 'wrong'))?.status?.phase, 'UploadReady');
    await start(file, 'wrong', '--checksum', 'sha256').done;
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'wrong'));
  });

  it('the gateway keeps within 192 MiB with eight uploads at once', async () => {
    const names = Array.from({ length: 8 }, (_, index) => `at-once-${index}`);
    const answers = names.map(async (name) => {
      await stack.kubectl(['create', '-f', '-'], { input: JSON.stringify(dataVolume(name)) });
      await world.awaitPhase(namespace, name, 'UploadReady', 60_000);
      return await post(images.raw, await token(name));
    });
    for (const status of await Promise.all(answers)) assert.equal(status, 200);
    const pid = processPid(stack.info, 'worker-gateway') ?? 0;
    const text = await readFile(`/proc/${pid}/status`, 'utf8');
    const peakKiB = Number(/^VmHWM:\s+(\d+) kB$/m.exec(text)?.[1]);
    console.log(`      peak of the gateway ${Math.round(peakKiB / 1024)} MiB`);
    assert.ok(peakKiB < 192 * 1024, `${peakKiB} KiB`);
    for (const name of names) {
      await world.awaitPhase(namespace, name, 'Succeeded', 60_000);
      await world.remove(namespace, name);
    }
  });

  function dataVolume(name: string): object {
    return {
      apiVersion: 'cdi.kubevirt.io/v1beta1',
      kind: 'DataVolume',
      metadata: { name, namespace },
      spec: { source: { upload: {} }, storage: { resources: { requests: { storage: '520Mi' } } } },
    };
  }

  async function token(name: string): Promise<string> {
    const input = JSON.stringify({
      apiVersion: 'upload.cdi.kubevirt.io/v1beta1',
      kind: 'UploadTokenRequest',
      metadata: { name, namespace },
      spec: { pvcName: name },
    });
    return await stack.kubectl(['create', '-f', '-', '-o', 'jsonpath={.status.token}'], { input });
  }

  async function post(file: string, bearer: string): Promise<number> {
    const { size } = statSync(file);
    return await new Promise((resolve, reject) => {
      const asked = request(
        {
          host: '127.0.0.1',
          port: stack.info.ports.gateway,
          path: '/v1beta1/upload',
          method: 'POST',
          ca: gatewayAuthority(stack.info.directory),
          agent: false,
          headers: { authorization: `Bearer ${bearer}`, 'content-length': size },
        },
        (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        },
      );
      asked.on('error', reject);
      createReadStream(file).pipe(asked);
    });
  }
});
