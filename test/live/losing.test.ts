import assert from 'node:assert/strict';
import { killProcess, restartProcess } from '../../local/index.js';
import { useStack } from '../support/stack.js';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { makeImages, type Images } from './images.js';
import { recordHistory } from './record.js';
import { createWorld, eventually, type DataVolume, type World } from './world.js';

const MiB = 1 << 20;

describe('a transfer that loses what it needs', function () {
  this.timeout(180_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let server: FileServer;
  let namespace: string;
  let inventory: readonly string[];

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 48, dataMiB: 32 });
    namespace = await world.createNamespace('losing');
  });
  beforeEach(async () => {
    server = await startFileServer({ path: await images.as('raw'), bytesPerSecond: 4 * MiB });
    inventory = await world.inventory();
  });
  afterEach(async () => await server.close());
  after(async () => await images.remove());

  const idOf = ({ metadata: { namespace: space, name, uid } }: DataVolume) =>
    `datavolume/${space}/${name}/${uid}`;

  it('its source, for longer than the deadline: DeadlineExceeded, and nothing is left', async () => {
    const made = await world.createImport(
      namespace,
      'source',
      { url: server.url },
      {},
      { 'dvflow.io/deadline': '10s' },
    );
    await eventually('bytes', 30_000, async () => (server.bytesSent() > 4 * MiB ? true : undefined));
    server.setStatus(503);
    server.dropConnections();
    const failed = await world.awaitPhase(namespace, 'source', 'Failed', 60_000);
    const running = failed.status?.conditions?.find(({ type }) => type === 'Running');
    assert.equal(running?.reason, 'DeadlineExceeded');
    assert.match(running.message, /transfer of http/);
    await world.assertUnchanged(inventory);
    await recordHistory(stack, idOf(made), 'importDataVolume.failed.deadline-in-transfer');
  });

  it('its claim, while the volume is published: ClaimLost, and nothing is left', async () => {
    server.setRate(undefined);
    // Without the controller manager nothing is Bound: the import is held where it waits for that.
    killProcess(stack.info, 'kube-controller-manager', 'SIGKILL');
    try {
      const made = await world.createImport(namespace, 'claim', { url: server.url });
      await eventually('the volume', 60_000, async () => {
        const volumes = await world.core.listPersistentVolume();
        return volumes.items.some(({ spec }) => spec?.claimRef?.name === 'claim') ? true : undefined;
      });
      await world.core.deleteNamespacedPersistentVolumeClaim({ namespace, name: 'claim' });
      const failed = await world.awaitPhase(namespace, 'claim', 'Failed', 60_000);
      assert.equal(failed.status?.conditions?.find(({ type }) => type === 'Running')?.reason, 'ClaimLost');
      await recordHistory(stack, idOf(made), 'importDataVolume.failed.claim-lost');
    } finally {
      await restartProcess(stack.info, 'kube-controller-manager');
    }
    await world.assertUnchanged(inventory);
  });

  it('its user, who cancels while the volume is published: Failed, reason Cancelled, and nothing is left', async () => {
    server.setRate(undefined);
    killProcess(stack.info, 'kube-controller-manager', 'SIGKILL');
    try {
      const made = await world.createImport(namespace, 'unwanted', { url: server.url });
      await eventually('the volume', 60_000, async () => {
        const volumes = await world.core.listPersistentVolume();
        return volumes.items.some(({ spec }) => spec?.claimRef?.name === 'unwanted') ? true : undefined;
      });
      await stack.temporal.workflow.getHandle(idOf(made)).cancel();
      const failed = await world.awaitPhase(namespace, 'unwanted', 'Failed', 60_000);
      assert.equal(failed.status?.conditions?.find(({ type }) => type === 'Running')?.reason, 'Cancelled');
    } finally {
      await restartProcess(stack.info, 'kube-controller-manager');
    }
    await world.assertUnchanged(inventory);
  });
});
