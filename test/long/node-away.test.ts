import assert from 'node:assert/strict';
import { killProcess, restartProcess } from '../../local/index.js';
import { recordHistory } from '../live/record.js';
import { createWorld, eventually, type DataVolume, type World } from '../live/world.js';
import { makeImages, type Images } from '../live/images.js';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { useStack } from '../support/stack.js';

/** Clean-up gives a silent node two minutes. */
const SILENT_MS = 200_000;

describe('a node that goes away', function () {
  this.timeout(300_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let server: FileServer;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    images = await makeImages();
    server = await startFileServer({ path: await images.as('raw'), bytesPerSecond: 4 << 20 });
    namespace = await world.createNamespace('away');
  });
  after(async () => {
    await server.close();
    await images.remove();
  });

  const idOf = ({ metadata: { namespace: space, name, uid } }: DataVolume) =>
    `datavolume/${space}/${name}/${uid}`;

  async function ended(id: string): Promise<string> {
    return await eventually('the workflow ends', SILENT_MS, async () => {
      const { status } = await stack.temporal.workflow.getHandle(id).describe();
      return status.name === 'RUNNING' ? undefined : status.name;
    });
  }

  it('during a cancel: the status comes at once, the clean-up is left, and the sweeper does it when the node is back', async () => {
    const before = await world.inventory();
    const made = await world.createImport(namespace, 'cancelled', { url: server.url });
    await eventually('bytes', 30_000, async () => (server.bytesSent() > 8 << 20 ? true : undefined));
    killProcess(stack.info, 'worker-node', 'SIGKILL');
    await stack.temporal.workflow.getHandle(idOf(made)).cancel();
    await world.awaitPhase(namespace, 'cancelled', 'Failed', 30_000);
    assert.equal(await ended(idOf(made)), 'CANCELLED');
    assert.ok(
      (await world.events(namespace, 'cancelled')).some(({ reason }) => reason === 'CleanupDeferred'),
    );
    await recordHistory(stack, idOf(made), 'importDataVolume.cancelled.node-away');
    await restartProcess(stack.info, 'worker-node');
    const sweep = await stack.temporal.workflow.start('sweep', {
      taskQueue: 'dvflow',
      workflowId: 'sweep-away',
      args: [{}],
    });
    await sweep.result();
    await world.assertUnchanged(before);
  });

  it('after the disk is complete: the import succeeds, and the marker alone stays', async () => {
    const made = await world.createImport(namespace, 'complete', { url: server.url });
    await world.awaitPhase(namespace, 'complete', 'ImportInProgress');
    // Without the controller manager nothing is Bound: the import is held exactly between volume and marker.
    killProcess(stack.info, 'kube-controller-manager', 'SIGKILL');
    const volume = await eventually('the volume', 60_000, async () => {
      const volumes = await world.core.listPersistentVolume();
      return volumes.items.find(({ spec }) => spec?.claimRef?.name === 'complete');
    });
    killProcess(stack.info, 'worker-node', 'SIGKILL');
    await restartProcess(stack.info, 'kube-controller-manager');
    await world.awaitPhase(namespace, 'complete', 'Succeeded', 60_000);
    assert.equal(await ended(idOf(made)), 'COMPLETED');
    assert.ok((await world.events(namespace, 'complete')).some(({ reason }) => reason === 'CleanupDeferred'));
    await recordHistory(stack, idOf(made), 'importDataVolume.succeeded.node-away');
    await restartProcess(stack.info, 'worker-node');
    const sweep = await stack.temporal.workflow.start('sweep', {
      taskQueue: 'dvflow',
      workflowId: 'sweep-complete',
      args: [{}],
    });
    const result = (await sweep.result()) as { removed: readonly string[] };
    assert.deepEqual(
      result.removed.filter((name) => name.includes(volume.metadata!.name!)),
      [],
    );
    await world.diskOf(namespace, 'complete');
  });
});
