import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { cancel } from '../../client/index.js';
import { awaitQuota } from '../support/quota.js';
import { useStack } from '../support/stack.js';
import {
  startFileServer,
  startSilentServer,
  type FileServer,
  type RunningServer,
} from '../support/servers/index.js';
import { makeImages, type Images } from './images.js';
import { recordHistory } from './record.js';
import { createWorld, eventually, type DataVolume, type World } from './world.js';

const MiB = 1 << 20;

describe('how a run ends', function () {
  this.timeout(240_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let namespace: string;
  let inventory: readonly string[];
  const servers: RunningServer[] = [];

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 48, dataMiB: 32 });
    namespace = await world.createNamespace('ending');
  });
  beforeEach(async () => {
    inventory = await world.inventory();
  });
  after(async () => {
    await Promise.all(servers.map((server) => server.close()));
    await images.remove();
  });

  async function slow(): Promise<FileServer> {
    const server = await startFileServer({ path: await images.as('raw'), bytesPerSecond: 2 * MiB });
    servers.push(server);
    return server;
  }

  async function transferring(name: string): Promise<{ made: DataVolume; server: FileServer }> {
    const server = await slow();
    const made = await world.createImport(namespace, name, { url: server.url });
    await eventually('bytes', 60_000, async () => (server.bytesSent() > 4 * MiB ? true : undefined));
    return { made, server };
  }

  const idOf = ({ metadata: { namespace: space, name, uid } }: DataVolume) =>
    `datavolume/${space}/${name}/${uid}`;

  /** Ways to hold an import at one of its steps. */
  const steps: Record<string, (name: string) => Promise<DataVolume>> = {
    'while the source is inspected': async (name) => {
      const server = await startSilentServer();
      servers.push(server);
      const made = await world.createImport(namespace, name, { url: server.url });
      await eventually('the probe', 30_000, async () => (server.requests().length > 0 ? true : undefined));
      return made;
    },
    'while a Secret is missing': async (name) => {
      const server = await slow();
      const made = await world.createImport(namespace, name, { url: server.url, secretRef: 'not-there' });
      await eventually('the condition', 30_000, async () => {
        const found = await world.read(namespace, name);
        return found?.status?.conditions?.some(({ message }) => message.includes('not-there'))
          ? true
          : undefined;
      });
      return made;
    },
    'while it waits for room': async (name) => {
      const server = await slow();
      const storage = {
        resources: { requests: { storage: '4Pi' } },
        storageClassName: 'hostpath-provisioner',
      };
      const made = await world.createImport(namespace, name, { url: server.url }, { storage });
      await eventually('the event with both figures', 30_000, async () => {
        const events = await world.events(namespace, name);
        return events.some(
          ({ reason, message }) =>
            reason === 'InsufficientCapacity' && /asks for \d+ bytes.*\d+ on node/.test(message),
        )
          ? true
          : undefined;
      });
      return made;
    },
    'while it waits for its first consumer': async (name) => {
      const server = await slow();
      const made = await world.createImport(
        namespace,
        name,
        { url: server.url },
        {},
        { 'cdi.kubevirt.io/storage.bind.immediate.requested': undefined },
      );
      await world.awaitPhase(namespace, name, 'WaitForFirstConsumer', 30_000);
      return made;
    },
    'while bytes move': async (name) => (await transferring(name)).made,
  };

  it('its claim deleted while bytes move: Failed, reason ClaimLost, long before the last byte', async () => {
    const { made, server } = await transferring('claim-lost');
    await world.core.deleteNamespacedPersistentVolumeClaim({ namespace, name: 'claim-lost' });
    const failed = await world.awaitPhase(namespace, 'claim-lost', 'Failed', 60_000);
    assert.equal(failed.status?.conditions?.find(({ type }) => type === 'Running')?.reason, 'ClaimLost');
    assert.ok(server.bytesSent() < 40 * MiB, `${server.bytesSent()} bytes were sent`);
    await world.assertUnchanged(inventory);
    await recordHistory(stack, idOf(made), 'importDataVolume.failed.claim-lost-in-transfer');
  });

  for (const [step, hold] of Object.entries(steps)) {
    it(`cancelled ${step}: Failed, reason Cancelled, nothing left`, async () => {
      const name = `cancelled-${step.replaceAll(' ', '-')}`.toLowerCase().slice(0, 50);
      const made = await hold(name);
      await cancel(stack.temporal, { namespace, name });
      const failed = await world.awaitPhase(namespace, name, 'Failed', 60_000);
      assert.equal(failed.status?.conditions?.find(({ type }) => type === 'Running')?.reason, 'Cancelled');
      await world.assertUnchanged(inventory);
      const suffix = step.split(' ').slice(-2).join('-');
      await recordHistory(
        stack,
        idOf(made),
        step.includes('bytes') ? 'importDataVolume.cancelled' : `importDataVolume.cancelled.${suffix}`,
      );
    });

    it(`DataVolume deleted ${step}: nothing left, and the workflow is cancelled`, async () => {
      const name = `deleted-${step.replaceAll(' ', '-')}`.toLowerCase().slice(0, 50);
      const made = await hold(name);
      await world.remove(namespace, name);
      await eventually('the workflow ends', 60_000, async () => {
        const { status } = await stack.temporal.workflow.getHandle(idOf(made)).describe();
        return status.name === 'RUNNING' ? undefined : status.name;
      });
      await world.assertUnchanged(inventory);
    });
  }

  it('writes nothing any more 2 s after a cancel', async () => {
    const { made } = await transferring('quiet');
    const path = (await world.inventory())
      .find((entry) => entry.endsWith('/disk.img'))
      ?.replace('pool ', `${stack.info.pool}/`);
    assert.ok(path);
    await stack.temporal.workflow.getHandle(idOf(made)).cancel();
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    const after = await stat(path).catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const later = await stat(path).catch(() => undefined);
    if (after && later) assert.equal(later.mtimeMs, after.mtimeMs);
    await world.assertUnchanged(inventory);
  });

  it('terminated: Failed, reason Terminated, and the next sweep removes what is left', async () => {
    const { made, server } = await transferring('terminated');
    await stack.temporal.workflow.getHandle(idOf(made)).terminate('an operator');
    server.setRate(undefined);
    const failed = await world.awaitPhase(namespace, 'terminated', 'Failed', 60_000);
    assert.equal(failed.status?.conditions?.find(({ type }) => type === 'Running')?.reason, 'Terminated');
    const result = await sweepUntil(() => world.assertUnchanged(inventory, 1_000));
    await recordHistory(stack, result, 'sweep.succeeded');
  });

  it('a finished disk survives the sweeper after a success and after a reset', async () => {
    const server = await startFileServer({ path: await images.as('qcow2') });
    servers.push(server);
    const made = await world.createImport(namespace, 'finished', { url: server.url });
    await world.awaitPhase(namespace, 'finished', 'Succeeded');
    const disk = await world.diskOf(namespace, 'finished');
    await sweep();
    await stat(disk);
    const handle = stack.temporal.workflow.getHandle(idOf(made));
    const { runId } = await handle.describe();
    await stack.temporal.workflowService.resetWorkflowExecution({
      namespace: 'default',
      workflowExecution: { workflowId: idOf(made), runId },
      // protobufjs takes a number where its type says Long
      workflowTaskFinishEventId: 4 as never,
      requestId: 'reset-finished',
      reason: 'a test',
    });
    await sweep();
    await stat(disk);
    await eventually('the run after the reset ends', 60_000, async () => {
      const { status } = await handle.describe();
      return status.name === 'RUNNING' ? undefined : true;
    });
    assert.equal((await world.read(namespace, 'finished'))?.status?.phase, 'Succeeded');
    await stat(disk);
    await world.remove(namespace, 'finished');
    await world.assertUnchanged(inventory);
  });

  it('retried after a failure: a new run goes through, and writes dvflow.io/retried first', async () => {
    const server = await startFileServer({ path: await images.as('qcow2'), status: 404 });
    servers.push(server);
    const made = await world.createImport(namespace, 'again', { url: server.url });
    await world.awaitPhase(namespace, 'again', 'Failed', 30_000);
    server.setStatus(undefined);
    await world.annotate(namespace, 'again', { 'dvflow.io/retry': 'once' });
    await eventually('success', 60_000, async () =>
      (await world.read(namespace, 'again'))?.status?.phase === 'Succeeded' ? true : undefined,
    );
    assert.equal((await world.read(namespace, 'again'))?.metadata.annotations?.['dvflow.io/retried'], 'once');
    await recordHistory(stack, idOf(made), 'importDataVolume.retried');
    await world.remove(namespace, 'again');
    await world.assertUnchanged(inventory);
  });

  it('a deadline without progress: DeadlineExceeded, and its message names what was waited for', async () => {
    const server = await slow();
    const storage = { resources: { requests: { storage: '4Pi' } }, storageClassName: 'hostpath-provisioner' };
    const made = await world.createImport(
      namespace,
      'late',
      { url: server.url },
      { storage },
      { 'dvflow.io/deadline': '5s' },
    );
    const failed = await world.awaitPhase(namespace, 'late', 'Failed', 60_000);
    const running = failed.status?.conditions?.find(({ type }) => type === 'Running');
    assert.equal(running?.reason, 'DeadlineExceeded');
    assert.match(running.message, /asks for \d+ bytes/);
    await recordHistory(stack, idOf(made), 'importDataVolume.failed.deadline');
  });

  it('a deadline that is changed while something is waited for: it counts from then on', async () => {
    const limited = await world.createNamespace('deadline');
    const quota = { metadata: { name: 'none' }, spec: { hard: { persistentvolumeclaims: '0' } } };
    await world.core.createNamespacedResourceQuota({ namespace: limited, body: quota });
    await awaitQuota(world, limited, { refuses: true });
    const made = await world.createImport(limited, 'shorter', { url: (await slow()).url });
    await eventually(
      'the wait',
      30_000,
      async () =>
        (await world.events(limited, 'shorter')).some(({ reason }) => reason === 'ErrExceededQuota') ||
        undefined,
    );
    await world.annotate(limited, 'shorter', { 'dvflow.io/deadline': '2s' });
    const failed = await world.awaitPhase(limited, 'shorter', 'Failed', 30_000);
    const { reason, message } = failed.status?.conditions?.find(({ type }) => type === 'Running') ?? {};
    assert.equal(reason, 'DeadlineExceeded');
    assert.match(message ?? '', /^no progress for 2000 ms /);
    await recordHistory(stack, idOf(made), 'importDataVolume.failed.deadline-changed');
  });

  it('a released volume of policy Delete is reclaimed: data first, then the object', async () => {
    const server = await startFileServer({ path: await images.as('qcow2') });
    servers.push(server);
    await world.createImport(namespace, 'reclaimed', { url: server.url });
    await world.awaitPhase(namespace, 'reclaimed', 'Succeeded');
    const claim = await world.claim(namespace, 'reclaimed');
    const volume = await world.core.readPersistentVolume({ name: claim!.spec!.volumeName! });
    await world.remove(namespace, 'reclaimed');
    await world.assertUnchanged(inventory);
    await recordHistory(stack, `reclaim/${volume.metadata!.uid}`, 'reclaimVolume.succeeded');
  });

  async function sweep(): Promise<string> {
    const handle = await stack.temporal.workflow.start('sweep', {
      taskQueue: 'dvflow',
      workflowId: `sweep-${Date.now()}`,
      args: [{}],
    });
    await handle.result();
    return handle.workflowId;
  }

  /** Sweeps until the world is as it should be; returns the id of the sweep that removed something. */
  async function sweepUntil(done: () => Promise<void>): Promise<string> {
    let last = '';
    await eventually('the sweeper removes what is left', 60_000, async () => {
      const id = await sweep();
      const result = (await stack.temporal.workflow.getHandle(id).result()) as { removed: readonly string[] };
      if (result.removed.length > 0) last = id;
      return await done().then(
        () => true,
        () => undefined,
      );
    });
    return last;
  }
});
