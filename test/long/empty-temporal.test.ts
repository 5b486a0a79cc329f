import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { killProcess, restartProcess } from '../../local/index.js';
import { makeImages, type Images } from '../live/images.js';
import { createWorld, eventually, type World } from '../live/world.js';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { useStack } from '../support/stack.js';

describe('an empty Temporal server', function () {
  this.timeout(180_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let server: FileServer;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 16, dataMiB: 8 });
    server = await startFileServer({ path: await images.as('qcow2') });
    namespace = await world.createNamespace('empty');
  });
  after(async () => {
    await server.close();
    await images.remove();
  });

  it('in place of the one that knew the imports: every finished disk survives the sweeper', async () => {
    await world.createImport(namespace, 'finished', { url: server.url });
    await world.awaitPhase(namespace, 'finished', 'Succeeded');
    const disk = await world.diskOf(namespace, 'finished');
    killProcess(stack.info, 'temporal', 'SIGKILL');
    for (const file of ['temporal.db', 'temporal.db-wal', 'temporal.db-shm']) {
      await rm(join(stack.info.directory, 'temporal', file), { force: true });
    }
    await restartProcess(stack.info, 'temporal');
    await restartProcess(stack.info, 'worker-control');
    await restartProcess(stack.info, 'worker-node');
    const before = await world.inventory();
    const sweep = await eventually('Temporal takes a start', 60_000, async () =>
      stack.temporal.workflow
        .start('sweep', { taskQueue: 'dvflow', workflowId: `sweep-${Date.now()}`, args: [{}] })
        .catch(() => undefined),
    );
    await sweep.result();
    await world.assertUnchanged(before);
    await stat(disk);
    // And work goes on there.
    await world.createImport(namespace, 'next', { url: server.url });
    await world.awaitPhase(namespace, 'next', 'Succeeded', 60_000);
  });
});
