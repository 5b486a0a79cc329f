import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { killProcess, restartProcess, type ProcessName } from '../../local/index.js';
import { chosen } from '../support/breadth.js';
import { useStack } from '../support/stack.js';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { makeImages, type Images } from './images.js';
import { assertRestarts, killAndRestart } from './killing.js';
import { recordHistory } from './record.js';
import { workflowOf } from './uploads.js';
import { assertSameDisk, createWorld, eventually, type DataVolume, type World } from './world.js';

const MiB = 1 << 20;

/** Within this an import gets over a step that was lost, on a busy machine; without heartbeats it takes one to five minutes. */
const LOST_MS = 45_000;

describe('kill -9 during a transfer', function () {
  this.timeout(240_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let namespace: string;
  const servers: FileServer[] = [];

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 96, dataMiB: 64 });
    namespace = await world.createNamespace('crashes');
  });
  after(async () => {
    await Promise.all(servers.map((server) => server.close()));
    await images.remove();
  });

  async function importFrom({ url }: FileServer, name: string): Promise<DataVolume> {
    const resources = { requests: { storage: '128Mi' } };
    const storage = { resources, storageClassName: 'hostpath-provisioner' };
    return await world.createImport(namespace, name, { url }, { storage });
  }

  /** Starts a slow import and returns when its server has sent some of it. */
  async function halfWay(name: string, form: string): Promise<{ server: FileServer; uid: string }> {
    const server = await startFileServer({ path: await images.as(form), bytesPerSecond: 6 * MiB });
    servers.push(server);
    const made = await importFrom(server, name);
    await eventually('half of the bytes', 60_000, async () =>
      server.bytesSent() > 32 * MiB ? true : undefined,
    );
    assert.equal((await world.read(namespace, name))?.status?.phase, 'ImportInProgress');
    assert.notEqual((await world.claim(namespace, name))?.status?.phase, 'Bound');
    server.setRate(undefined);
    return { server, uid: made.metadata.uid };
  }

  const forms: readonly [ProcessName, string][] = [
    ['worker-node', 'raw'],
    ['worker-node', 'qcow2'],
    ['worker-node', 'raw.gz'],
    ['worker-control', 'qcow2'],
    ['temporal', 'raw'],
    ['kube-apiserver', 'qcow2'],
  ];
  // how each plan goes on is the engine's, and tried there
  for (const [victim, form] of chosen(forms, ([one], index) => index === 0 || one !== 'worker-node')) {
    it(`of ${victim}, importing ${form}: the work goes on and the disk is right`, async () => {
      const name = `${victim}-${form.replace('.', '-')}`;
      const { server, uid } = await halfWay(name, form);
      const attempts = await killAndRestart(stack.info, victim);
      const done = await world.awaitPhase(namespace, name, 'Succeeded', 180_000);
      await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, name));
      const length = server.length;
      const total = server.bytesSent();
      console.log(
        `        ${name}: ${total} bytes sent of ${length} (${((100 * total) / length).toFixed(1)} %), restarts ${done.status?.restartCount ?? 0}`,
      );
      if (victim === 'worker-node' && form === 'raw') {
        await recordHistory(stack, `datavolume/${namespace}/${name}/${uid}`, 'importDataVolume.resumed');
      }
      assertRestarts(done, attempts);
      if (attempts.most === 0) assert.ok(total <= length * 1.05, `${total} of ${length}`);
    });
  }

  it('of worker-control over the probe of a source: the probe is made again within seconds, not minutes', async () => {
    const server = await startFileServer({ path: await images.as('qcow2'), bytesPerSecond: 1 });
    servers.push(server);
    await importFrom(server, 'probed');
    await eventually('the probe', 30_000, async () => (server.bytesSent() > 0 ? true : undefined));
    killProcess(stack.info, 'worker-control', 'SIGKILL');
    server.setRate(undefined);
    await restartProcess(stack.info, 'worker-control');
    await world.awaitPhase(namespace, 'probed', 'Succeeded', LOST_MS);
  });

  it('of worker-node over a reservation: it is made again within seconds, not minutes', async () => {
    const server = await startFileServer({ path: await images.as('qcow2') });
    servers.push(server);
    const pool = join(stack.info.pool, '.dvflow', 'lock');
    const holder = spawn('flock', [pool, 'sleep', '300'], { stdio: 'ignore', detached: true });
    try {
      const made = await importFrom(server, 'reserved');
      const run = stack.temporal.workflow.getHandle(workflowOf(made));
      await eventually('the reservation', 30_000, async () => {
        const { raw } = await run.describe().catch(() => ({ raw: undefined }));
        const begun = raw?.pendingActivities?.find(
          ({ activityType, lastStartedTime }) => activityType?.name === 'reserveDirectory' && lastStartedTime,
        );
        return begun ? true : undefined;
      });
      killProcess(stack.info, 'worker-node', 'SIGKILL');
      await restartProcess(stack.info, 'worker-node');
    } finally {
      process.kill(-holder.pid!);
    }
    await world.awaitPhase(namespace, 'reserved', 'Succeeded', LOST_MS);
  });

  it('is not needed: a node worker that is stopped hands its transfer over', async () => {
    const { server } = await halfWay('stopped', 'raw');
    // So slow that it does not end within the time that a stopping worker gives it.
    server.setRate(2 * MiB);
    killProcess(stack.info, 'worker-node', 'SIGTERM');
    await restartProcess(stack.info, 'worker-node');
    server.setRate(undefined);
    const done = await world.awaitPhase(namespace, 'stopped', 'Succeeded', 120_000);
    assert.equal(done.status?.restartCount, 1);
    assert.ok(server.bytesSent() <= server.length * 1.6, `${server.bytesSent()} of ${server.length}`);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'stopped'));
  });

  it('of one of two control workers: the other goes on, and neither starts a workflow twice', async () => {
    await restartProcess(stack.info, 'worker-control-2');
    try {
      const { uid } = await halfWay('replicas', 'qcow2');
      killProcess(stack.info, 'worker-control', 'SIGKILL');
      await world.awaitPhase(namespace, 'replicas', 'Succeeded', 120_000);
      const runs: string[] = [];
      await eventually('visibility', 30_000, async () => {
        runs.length = 0;
        for await (const run of stack.temporal.workflow.list({ query: `DataVolumeUid = '${uid}'` }))
          runs.push(run.runId);
        return runs.length > 0 ? true : undefined;
      });
      assert.equal(runs.length, 1);
    } finally {
      await restartProcess(stack.info, 'worker-control');
      killProcess(stack.info, 'worker-control-2', 'SIGTERM');
    }
  });
});
