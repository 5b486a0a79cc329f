/** The DataVolume of the machine in section 2.20.3 (M16b), and why its machine waits for it: statements 55-57. */
import assert from 'node:assert/strict';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { useStack } from '../support/stack.js';
import { makeImages, type Images } from '../live/images.js';
import { assertSameDisk, createWorld, eventually, type World } from '../live/world.js';
import { consumerOf, documented } from './documented.js';

const MiB = 1 << 20;
const IN_THE_DOCUMENT = 'https://images.example.com/disk.qcow2';

describe('the imported disk of a documented machine', function () {
  this.timeout(120_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let server: FileServer;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 32, dataMiB: 24 });
    server = await startFileServer({ path: await images.as('qcow2') });
    namespace = await world.createNamespace('machine');
  });
  after(async () => {
    await server.close();
    await images.remove();
  });

  it('is complete before the pod of the machine can start on it', async () => {
    // it lasts until it has been looked at
    server.setRate(MiB);
    const input = documented('vm-disk-import', { [IN_THE_DOCUMENT]: server.url });
    await stack.kubectl(['create', '-n', namespace, '-f', '-'], { input });
    await world.awaitPhase(namespace, 'example-dv', 'WaitForFirstConsumer', 20_000);
    await world.core.createNamespacedPod({ namespace, body: consumerOf('example-dv') });
    await world.awaitPhase(namespace, 'example-dv', 'ImportInProgress', 30_000);
    const waiting = await world.core.readNamespacedPod({ namespace, name: 'consumer' });
    assert.equal((await world.claim(namespace, 'example-dv'))?.status?.phase, 'Pending');
    assert.equal(waiting.spec?.nodeName, undefined, 'the pod has a node already');
    server.setRate(undefined);
    await world.awaitPhase(namespace, 'example-dv', 'Succeeded', 60_000);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'example-dv'));
    await eventually('the pod has its node', 30_000, async () => {
      const pod = await world.core.readNamespacedPod({ namespace, name: 'consumer' });
      return pod.spec?.nodeName;
    });
    await world.core.deleteNamespacedPod({ namespace, name: 'consumer', gracePeriodSeconds: 0 });
  });

  it('lies in an object that oc finds under the names of the document', async () => {
    for (const name of ['dv', 'dvs', 'datavolumes']) {
      const table = await stack.kubectl(['get', name, '-n', namespace]);
      assert.match(table, /^NAME +PHASE +PROGRESS +RESTARTS +AGE\nexample-dv +Succeeded +100\.0% /);
    }
  });
});
